//! nginx with Lua as the front of the Redis rival, in a temporary directory of its own.
//!
//! One worker process, as the other fronts have one thread; no access log; connections to Redis by its unix
//! socket out of a pool. The handler is `redis_lua/front.lua`. Needs Debian's libnginx-mod-http-lua.
//! Next: [`super`].

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use super::{SCRIPT, script_hash};
use crate::design::CAP;
use crate::error::ClassicError;
use crate::limiter::KEY_PREFIX;
use stampede_testkit::{RedisServer, Warden, free_port, tail};

const HANDLER: &str = include_str!("front.lua");
/// Where Debian has the modules; a build with Lua in it (OpenResty) needs none.
const MODULES: &str = "/usr/lib/nginx/modules";
/// Where to look besides PATH.
const BIN_DIRS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/openresty/nginx/sbin"];
const WAIT_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running nginx. Dropping it ends it and removes its directory.
pub struct Nginx {
    /// Where it answers.
    pub addr: SocketAddr,
    master: Child,
    warden: Warden,
}

impl Nginx {
    /// Starts one in front of this Redis at `listen` (port 0: a free one), and waits until it answers.
    ///
    /// # Errors
    /// [`ClassicError`] if nginx or its module is not installed, or does not start.
    pub fn start(redis: &RedisServer, listen: SocketAddr) -> Result<Self, ClassicError> {
        let socket = redis.socket();
        let socket = socket
            .ok_or(ClassicError::Missing("TMPDIR is too long for a unix socket, which nginx-lua needs"))?;
        let program = find()?;
        let warden = Warden::new("nginx", None)?;
        let fault = |error: std::io::Error| ClassicError::process("starting nginx", &error);
        fs::create_dir(warden.data_dir()).map_err(fault)?;
        let mut addr = listen;
        if addr.port() == 0 {
            addr.set_port(free_port().map_err(fault)?);
        }
        let (conf, log) = (warden.dir().join("nginx.conf"), warden.dir().join("log"));
        fs::write(warden.dir().join("front.lua"), HANDLER).map_err(fault)?;
        let text = settings(&program, warden.dir(), addr, &socket, redis.password());
        fs::write(&conf, text).map_err(fault)?;
        let out = File::create(&log).map_err(fault)?;
        let errors = out.try_clone().map_err(fault)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(warden.dir()).arg("-c").arg(&conf).current_dir(warden.data_dir());
        command.stdin(Stdio::null()).stdout(out).stderr(errors).process_group(0);
        let master = command.spawn().map_err(fault)?;
        let mut nginx = Self { addr, master, warden };
        nginx.wait_ready(&log)?;
        Ok(nginx)
    }

    /// Its first process, whose child does the work.
    pub fn pid(&self) -> u32 {
        self.master.id()
    }

    fn wait_ready(&mut self, log: &Path) -> Result<(), ClassicError> {
        let deadline = Instant::now() + WAIT_MAX;
        while TcpStream::connect(self.addr).is_err() {
            if matches!(self.master.try_wait(), Ok(Some(_))) || Instant::now() > deadline {
                let words = tail(&fs::read(log).unwrap_or_default());
                return Err(ClassicError::process("starting nginx", &words));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.warden.let_go();
        drop(self.master.wait());
    }
}

/// nginx's own words for its version.
///
/// # Errors
/// [`ClassicError`] if nginx or its module is not installed.
pub fn version() -> Result<String, ClassicError> {
    let output = Command::new(find()?).arg("-v").output();
    let output = output.map_err(|error| ClassicError::process("asking nginx for its version", &error))?;
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(words.rsplit("nginx/").next().unwrap_or("").to_owned())
}

fn find() -> Result<PathBuf, ClassicError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(BIN_DIRS.map(PathBuf::from));
    let mut found =
        dirs.flat_map(|dir| ["openresty", "nginx"].map(|name| dir.join(name))).filter(|p| p.is_file());
    found.next().filter(|program| has_lua(program)).ok_or(ClassicError::Missing(
        "no nginx with Lua found; install it: apt-get install nginx libnginx-mod-http-lua",
    ))
}

fn has_lua(program: &Path) -> bool {
    is_openresty(program) || Path::new(MODULES).join("ngx_http_lua_module.so").is_file()
}

fn is_openresty(program: &Path) -> bool {
    program.components().any(|part| part.as_os_str() == "openresty")
}

fn settings(program: &Path, dir: &Path, addr: SocketAddr, socket: &Path, password: &str) -> String {
    let modules =
        ["ndk_http_module", "ngx_http_lua_module"].map(|name| format!("load_module {MODULES}/{name}.so;\n"));
    let modules = if is_openresty(program) { String::new() } else { modules.concat() };
    // The worker has to be let into the directory that holds the socket.
    let user = if geteuid().is_root() { "user root;\n" } else { "" };
    let (dir, socket, hash) = (dir.display(), socket.display(), script_hash());
    format!(
        r#"{modules}{user}daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {dir}/pid;
error_log {dir}/log error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 60s;
    tcp_nodelay on;
    client_body_buffer_size 4k;
    client_max_body_size 4k;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    lua_code_cache on;
    lua_socket_log_errors off;
    init_by_lua_block {{
        SOCKET = 'unix:{socket}'
        PASSWORD = '{password}'
        HASH = '{hash}'
        CAP = '{CAP}'
        SCRIPT = [==[{SCRIPT}]==]
        local known = {{}}
        function KEYS_OF(item)
            local keys = known[item]
            if not keys then
                keys = ''
                for _, name in ipairs({{ 'stock', 'bought', 'orders' }}) do
                    local key = '{KEY_PREFIX}{{' .. item .. '}}:' .. name
                    keys = keys .. '$' .. #key .. '\r\n' .. key .. '\r\n'
                end
                if tonumber(item) < 100 then known[item] = keys end
            end
            return keys
        end
    }}
    server {{
        listen {addr} reuseport backlog=4096;
        location ~ ^/v1/items/([0-9]+)/orders$ {{ content_by_lua_file {dir}/front.lua; }}
    }}
}}
"#
    )
}
