//! A browser with its own profile, as a test uses it: go there, click this, read that.
//!
//! An action that fails panics with a message. Only [`Browser::wait`] is patient;
//! everything else looks once. Next: `sale.rs` for what the sale page promises.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::driver::{Driver, Refusal};
use crate::server::PATIENCE;

/// How many browsers run at once: each keeps a core busy while a page loads.
const BROWSERS_MAX: usize = 2;
/// Time between two looks at a page.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// The window of a desktop and of the smallest phone, in CSS pixels.
pub(crate) const WIDE: (u32, u32) = (1100, 800);
pub(crate) const NARROW: (u32, u32) = (320, 640);

/// The protocol returns elements under this name.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const SWITCHES: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    // A container has little shared memory.
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Records the states of a page, so that none is missed between two looks.
const RECORDER: &str = "window.states = [];
    new MutationObserver(() => {
        const state = document.querySelector('[data-state]')?.dataset.state;
        if (state && state !== states.at(-1)) states.push(state);
    }).observe(document, { subtree: true, childList: true, attributeFilter: ['data-state'] });";

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The permission to run a browser.
struct Slot;

impl Slot {
    fn take() -> Self {
        let running = RUNNING.lock().unwrap();
        *ENDED.wait_while(running, |running| *running >= BROWSERS_MAX).unwrap() += 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap() -= 1;
        ENDED.notify_one();
    }
}

/// One browser. Dropping it ends it.
pub(crate) struct Browser {
    path: String,
    /// The prefix of its screenshots.
    name: &'static str,
    /// Whether pages may run scripts.
    scripts: Cell<bool>,
    // Dropped after the session has ended, in this order.
    _profile: TempDir,
    _slot: Slot,
}

impl Browser {
    /// A browser with English pages and a desktop's width.
    pub(crate) fn english(name: &'static str) -> Self {
        Self::open(name, "en-US")
    }

    /// A browser whose user reads this language.
    pub(crate) fn open(name: &'static str, language: &str) -> Self {
        let slot = Slot::take();
        let driver = Driver::get();
        let profile = profile();
        let mut switches: Vec<String> = SWITCHES.iter().map(|&switch| switch.to_owned()).collect();
        switches.push(format!("--user-data-dir={}", profile.path().display()));
        switches.push(format!("--window-size={},{}", WIDE.0, WIDE.1));
        switches.push(format!("--accept-lang={language}"));
        let wish = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": driver.browser, "args": switches},
        }}});
        let session = driver.call("/session", Some(&wish)).unwrap_or_else(|no| panic!("no browser: {no}"));
        let id = session["sessionId"].as_str().expect("a session has an id");
        let path = format!("/session/{id}");
        let browser = Self { path, name, scripts: Cell::new(true), _profile: profile, _slot: slot };
        // Leaves the browser's own first page, whose scripts complain when they are interrupted.
        browser.go("about:blank");
        browser.log();
        browser.set_up_tab();
        browser
    }

    fn set_up_tab(&self) {
        self.resize(WIDE);
        self.run_first(RECORDER);
    }

    /// From now on this script runs in each new page of this tab, before the page's own scripts.
    pub(crate) fn run_first(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    fn ask(&self, command: &str) -> Value {
        let answer = Driver::get().call(&format!("{}{command}", self.path), None);
        answer.unwrap_or_else(|no| panic!("{}: {command}: {no}", self.name))
    }

    fn try_tell(&self, command: &str, body: &Value) -> Result<Value, Refusal> {
        Driver::get().call(&format!("{}{command}", self.path), Some(body))
    }

    fn tell(&self, command: &str, body: &Value) -> Value {
        self.try_tell(command, body).unwrap_or_else(|no| panic!("{}: {command}: {no}", self.name))
    }

    /// A command of the browser's debugging protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.tell("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Navigates there and waits until the page is loaded.
    pub(crate) fn go(&self, url: &str) {
        self.tell("/url", &json!({"url": url}));
    }

    pub(crate) fn reload(&self) {
        self.tell("/refresh", &json!({}));
    }

    pub(crate) fn url(&self) -> String {
        self.ask("/url").as_str().expect("an address").to_owned()
    }

    fn try_find(&self, css: &str) -> Result<String, Refusal> {
        let found = self.try_tell("/element", &json!({"using": "css selector", "value": css}))?;
        Ok(format!("/element/{}", found[ELEMENT].as_str().expect("an element")))
    }

    fn find(&self, css: &str) -> String {
        self.try_find(css).unwrap_or_else(|no| panic!("{}: `{css}`: {no}", self.name))
    }

    /// Clicks into the middle of it, like a finger.
    pub(crate) fn click(&self, css: &str) {
        self.tell(&format!("{}/click", self.find(css)), &json!({}));
    }

    /// Clicks and waits for the next page. Do not look at a page that is being left:
    /// a screenshot of it may never be finished.
    pub(crate) fn click_through(&self, css: &str) {
        self.run("window.isLeft = true", &json!([]));
        self.click(css);
        self.wait("!window.isLeft && document.readyState == 'complete'");
    }

    /// Double-clicks as fast as the browser accepts it.
    pub(crate) fn double_click(&self, css: &str) {
        let element = self.find(css);
        let id = element.rsplit('/').next().unwrap();
        let (down, up) =
            (json!({"type": "pointerDown", "button": 0}), json!({"type": "pointerUp", "button": 0}));
        let there = json!({"type": "pointerMove", "x": 0, "y": 0, "origin": {ELEMENT: id}});
        let moves = json!([there, down, up, down, up]);
        self.tell("/actions", &json!({"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]}));
    }

    /// Types into it.
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        self.tell(&format!("{}/value", self.find(css)), &json!({"text": text}));
    }

    /// Presses and releases one key, wherever the focus is: a character, or one of [`keys`].
    pub(crate) fn press(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.tell("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// The visible text; empty if the element is hidden.
    pub(crate) fn text(&self, css: &str) -> String {
        self.ask(&format!("{}/text", self.find(css))).as_str().unwrap_or_default().to_owned()
    }

    /// Whether there is such an element and it is visible.
    pub(crate) fn shows(&self, css: &str) -> bool {
        self.try_find(css).is_ok_and(|element| self.ask(&format!("{element}/displayed")) == true)
    }

    /// The value of an attribute; `None` if there is no such element or attribute.
    pub(crate) fn attribute(&self, css: &str, name: &str) -> Option<String> {
        let look = "return document.querySelector(arguments[0])?.getAttribute(arguments[1]) ?? null";
        self.run(look, &json!([css, name])).as_str().map(str::to_owned)
    }

    /// Runs a function body in the page and waits for its result, also if that is a promise.
    pub(crate) fn run(&self, body: &str, arguments: &Value) -> Value {
        self.tell("/execute/sync", &json!({"script": body, "args": arguments}))
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"), &json!([]))
    }

    /// Waits until the expression is true. Tolerates that the page changes meanwhile.
    pub(crate) fn wait(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        let body = json!({"script": format!("return !!({expression})"), "args": []});
        loop {
            let looked = self.try_tell("/execute/sync", &body);
            if matches!(&looked, Ok(holds) if *holds == true) {
                return;
            }
            if Instant::now() > deadline {
                self.save("in-vain", &self.picture());
                let (text, log) = (self.text("body"), self.log().join("\n"));
                panic!(
                    "{}: timed out waiting for `{expression}` ({looked:?}) at {}\n{text}\n{log}",
                    self.name,
                    self.url()
                );
            }
            thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Resizes the page, in CSS pixels.
    pub(crate) fn resize(&self, (width, height): (u32, u32)) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// The user's preferences: dark colours, reduced motion.
    pub(crate) fn prefer(&self, dark: bool, still: bool) {
        let features = json!([
            {"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }},
            {"name": "prefers-reduced-motion", "value": if still { "reduce" } else { "no-preference" }},
        ]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Whether pages that are loaded from now on may run scripts of their own.
    pub(crate) fn allow_scripts(&self, allowed: bool) {
        self.scripts.set(allowed);
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": !allowed}));
    }

    /// Whether pages may run scripts of their own.
    pub(crate) fn runs_scripts(&self) -> bool {
        self.scripts.get()
    }

    /// Pulls the network cable, or plugs it in again.
    pub(crate) fn set_offline(&self, offline: bool) {
        let rate = if offline { 0 } else { -1 };
        let conditions = json!({"offline": offline, "latency": 0, "throughput": rate,
            "download_throughput": rate, "upload_throughput": rate});
        self.tell("/chromium/network_conditions", &json!({"network_conditions": conditions}));
    }

    /// Opens another tab and continues there.
    pub(crate) fn open_tab(&self) -> String {
        let tab = self.tell("/window/new", &json!({"type": "tab"}));
        let tab = tab["handle"].as_str().expect("a handle").to_owned();
        self.switch_to(&tab);
        self.set_up_tab();
        tab
    }

    /// The current tab.
    pub(crate) fn tab(&self) -> String {
        self.ask("/window").as_str().expect("a handle").to_owned()
    }

    pub(crate) fn switch_to(&self, tab: &str) {
        self.tell("/window", &json!({"handle": tab}));
    }

    /// New messages on the console since the last call, as `LEVEL message`.
    pub(crate) fn log(&self) -> Vec<String> {
        let entries = self.tell("/se/log", &json!({"type": "browser"}));
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().replace("\\n", "\n");
        let entries = entries.as_array().expect("entries");
        entries.iter().map(|entry| format!("{} {}", text(entry, "level"), text(entry, "message"))).collect()
    }

    fn picture(&self) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Takes a screenshot of the whole page and keeps the file.
    pub(crate) fn screenshot(&self, label: &str) {
        self.save(label, &self.picture());
    }

    fn save(&self, label: &str, picture: &[u8]) {
        std::fs::write(below_target().join(format!("{}-{label}.png", self.name)), picture).unwrap();
    }

    /// What axe-core finds wrong with the current page, one line per element.
    pub(crate) fn violations(&self) -> String {
        let file = below_target().join("axe.min.js");
        let axe = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("no axe-core at {} ({error}): `make deps` gets it", file.display());
        });
        let script = format!(
            "if (!window.axe) {{ {axe} }}
             return axe.run(document, {{ resultTypes: ['violations'] }}).then(found =>
                 found.violations.flatMap(rule => rule.nodes.map(node =>
                     `${{rule.id}} (${{rule.impact}}): ${{rule.help}}: ${{node.html}} ${{
                         node.any.concat(node.all).map(check => check.message).join('; ')}}`)).join('\\n'))"
        );
        // The page's own scripts have run by now, or never will; axe-core needs timers.
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": false}));
        let found = self.run(&script, &json!([]));
        self.allow_scripts(self.scripts.get());
        found.as_str().expect("text").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(no) = Driver::get().end(&self.path) {
            eprintln!("{}: the browser does not end: {no}", self.name);
        }
    }
}

/// Where axe-core is and the screenshots go: `browser` in the target directory.
fn below_target() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let dir = target.join("browser");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A directory for a browser's profile, named after this process. Directories left by killed
/// processes are removed once.
fn profile() -> TempDir {
    static CLEARED: Once = Once::new();
    CLEARED.call_once(|| {
        for entry in std::fs::read_dir(below_target()).unwrap().map_while(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("profile-").and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                let _gone_already = std::fs::remove_dir_all(entry.path());
            }
        }
    });
    TempDir::with_prefix_in(format!("profile-{}-", std::process::id()), below_target()).unwrap()
}

/// Keys that are not characters, as the protocol encodes them.
pub(crate) mod keys {
    pub(crate) const TAB: &str = "\u{e004}";
    pub(crate) const ENTER: &str = "\u{e007}";
    pub(crate) const SPACE: &str = " ";
}
