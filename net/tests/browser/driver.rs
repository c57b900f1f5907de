//! One chromedriver for this program, and the WebDriver protocol to it: JSON over HTTP.
//!
//! It must leave nothing behind, however the tests end: a shell starts it in its own process
//! group, waits for the end of a pipe that only this process holds open, and
//! then kills the group, including the browsers. Next: `browser.rs`, which uses it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

/// Longest time for one command: far beyond a slow page on a loaded machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Browsers that may be on the path, the distributions' own first.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// What to do if a part is missing.
const REMEDY: &str = "`make deps` installs what the browser tests need";

/// The error that chromedriver returns.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The protocol's name of the error, such as `no such element`.
    pub(crate) error: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.message.lines().next().unwrap_or_default();
        write!(f, "{}: {first}", self.error)
    }
}

/// The process that controls all browsers.
pub(crate) struct Driver {
    base: String,
    agent: ureq::Agent,
    /// The program that it starts.
    pub(crate) browser: PathBuf,
    /// Its standard input stays open for as long as this process lives.
    _shell: Child,
}

impl Driver {
    /// The one of this process, started on first use.
    pub(crate) fn get() -> &'static Self {
        static DRIVER: OnceLock<Driver> = OnceLock::new();
        DRIVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let browser = BROWSERS.into_iter().find_map(on_path);
        let browser = browser.unwrap_or_else(|| panic!("no Chromium on the path: {REMEDY}"));
        on_path("chromedriver").unwrap_or_else(|| panic!("no chromedriver on the path: {REMEDY}"));
        let script = "chromedriver --port=0 </dev/null 2>/dev/null & read -r _; kill -9 0";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).process_group(0);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let port = lines.by_ref().find_map(|line| {
            let port = line.rsplit_once("successfully on port ").map(|(_, port)| port.to_owned());
            said.push(line);
            port
        });
        let port = port.unwrap_or_else(|| panic!("chromedriver does not start: {}", said.join(" ")));
        // Later output is not needed, but the pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(CALL_TIMEOUT));
        Self {
            base: format!("http://127.0.0.1:{}", port.trim_end_matches('.')),
            agent: config.build().into(),
            browser,
            _shell: shell,
        }
    }

    /// Sends one command; `body` is `None` for commands that use GET.
    ///
    /// # Errors
    /// [`Refusal`] as chromedriver words it. If chromedriver is gone, this panics.
    pub(crate) fn call(&self, path: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        let url = format!("{}{path}", self.base);
        let asked = match body {
            Some(body) => self.agent.post(&url).send_json(body),
            None => self.agent.get(&url).call(),
        };
        let what = || body.and_then(|body| body["cmd"].as_str()).unwrap_or(path);
        read(what, asked)
    }

    /// Ends a session. Never panics, because a failed test ends its browser, too.
    ///
    /// # Errors
    /// Why it could not.
    pub(crate) fn end(&self, session: &str) -> Result<(), String> {
        let asked = self.agent.delete(&format!("{}{session}", self.base)).call();
        let status = asked.map_err(|error| error.to_string())?.status();
        if status.is_success() { Ok(()) } else { Err(status.to_string()) }
    }
}

/// The `value` of a response; `what` was the command.
fn read<'a>(
    what: impl FnOnce() -> &'a str,
    asked: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, Refusal> {
    let mut answer = asked.unwrap_or_else(|error| panic!("chromedriver does not answer {}: {error}", what()));
    // A screenshot may be larger than the client's default limit.
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_string();
    let mut body: Value = serde_json::from_str(&body.expect("an answer's body")).expect("JSON");
    let value = body["value"].take();
    if answer.status().is_success() {
        return Ok(value);
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Err(Refusal { error: text("error"), message: text("message") })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}
