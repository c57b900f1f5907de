//! What the server prints: log lines on the standard error, the banner on the standard output.
//!
//! ```text
//! any thread ──line──▶ queue, bounded ──▶ one thread per stream ──write──▶ 1, 2
//!             full: dropped, counted                            error: dropped, counted
//!                                                               no room for 2 s: dropped, counted
//! ```
//!
//! The reader may be slow, stopped or gone, and the disk under a redirected stream may be full. None of
//! that may block or end a sale: only the stream's own thread ever writes, and lines without room are
//! dropped and counted (`stampede_log_lines_lost_total`). When a line gets through again, the next one says
//! how many are missing. The process ends by returning from `main` or through [`exit`], which waits at most
//! [`LAST_WORDS`] for earlier lines. Commands that print a result wait for their reader instead, see
//! [`crate::cli`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the thread that writes them.
const LINES_MAX: usize = 1024;
/// Longest line, in bytes; the rest of a longer one is cut off.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Bytes that a pipe with room always takes at once.
const PIPE_BYTES: usize = 4096;
/// Longest wait for the reader to make room; after that lines do not wait until there is room again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for earlier lines when the process ends.
pub const LAST_WORDS: Duration = Duration::from_millis(250);
/// Time between two checks whether everything is written.
const LOOK: Duration = Duration::from_millis(1);
/// Pause before the next try at a stream that reports room and takes nothing.
const PAUSE: Duration = Duration::from_millis(10);

static ERRORS: OnceLock<StreamQueue> = OnceLock::new();
static RESULTS: OnceLock<StreamQueue> = OnceLock::new();
/// Dropped lines. Any thread adds to it, the metric reads it; Relaxed: it stands alone.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts the threads that write. From now on [`say`] never waits.
///
/// # Errors
/// The system gives no thread.
pub fn start() -> io::Result<()> {
    for (queue, name, stream) in
        [(&ERRORS, "stampede-stderr", Stream::Errors), (&RESULTS, "stampede-stdout", Stream::Results)]
    {
        if queue.get().is_none() {
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                let queue = queue.wait();
                StreamWriter::new(stream, queue).write_for_ever()
            })?;
            // A second caller has started a thread too many, which only waits.
            let _first_stays = queue.set(StreamQueue::new(thread.thread().clone()));
        }
    }
    Ok(())
}

/// Prints a line on the standard error, without waiting. Before [`start`] it waits for at most two seconds.
pub fn say(line: &str) {
    put(&ERRORS, Stream::Errors, line.as_bytes());
}

/// Prints a line on the standard output, without waiting.
pub fn show(line: &str) {
    put(&RESULTS, Stream::Results, line.as_bytes());
}

/// Prints progress on the standard error, if there is room for it at this moment.
pub fn offer(progress: &str) {
    let errors = io::stderr();
    if has_room(errors.as_fd(), Duration::ZERO) {
        let _nobody_looks = write(errors.as_fd(), &progress.as_bytes()[..progress.len().min(PIPE_BYTES)]);
    }
}

/// Lines dropped since the start.
pub fn lines_lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Waits until all earlier lines are written, for at most `within`.
pub fn flush(within: Duration) {
    let until = Instant::now() + within;
    let quiet = |queue: &OnceLock<StreamQueue>| queue.get().is_none_or(StreamQueue::is_quiet);
    while !(quiet(&ERRORS) && quiet(&RESULTS)) && Instant::now() < until {
        thread::sleep(LOOK);
    }
}

/// The exit code of a broken process: a thread panicked or ended unexpectedly, or a core stalled. The process
/// has to be started again. It is not a signal, since the kernel would then write the memory, with its
/// secrets, to a file.
pub const EXIT_BROKEN: u8 = 76;

/// Ends the process with this code after its last lines. No exit handlers run: a suspended thread may hold
/// what they would wait for.
pub fn exit(code: u8) -> ! {
    flush(LAST_WORDS);
    // `_exit`, under a name that needs no `unsafe`.
    signal_hook::low_level::exit(i32::from(code))
}

/// Makes a panic end the process: half a server is worse than none. The message is printed like all lines,
/// since the default hook waits for the reader.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|info| {
        // Make room: the next line must not be lost.
        flush(LAST_WORDS);
        let thread = thread::current();
        say(&format!("thread '{}' {info}", thread.name().unwrap_or("without a name")));
        let trace = std::backtrace::Backtrace::capture();
        if trace.status() == std::backtrace::BacktraceStatus::Captured {
            trace.to_string().lines().for_each(say);
        }
        exit(EXIT_BROKEN);
    }));
}

/// Gives the log subscriber a writer per event, which never fails and never waits.
pub struct Lines;

/// Writes whole events.
pub struct Line;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

impl io::Write for Line {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        put(&ERRORS, Stream::Errors, event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints on the standard output what is written to it, line by line, without waiting.
#[derive(Default)]
pub struct StdoutLines(Vec<u8>);

impl io::Write for StdoutLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            put(&RESULTS, Stream::Results, &line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(queue: &OnceLock<StreamQueue>, stream: Stream, line: &[u8]) {
    let mut line = line[..line.len().min(LINE_BYTES_MAX)].to_vec();
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    match queue.get() {
        Some(queue) => queue.put(line),
        None => drop(write_all(stream, &line, PATIENCE)),
    }
}

fn lose() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// A stream of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    Errors,
    Results,
}

/// The queue in front of a stream.
struct StreamQueue {
    lines: ArrayQueue<Vec<u8>>,
    /// Lines that are neither written nor lost. Raised before a line is queued, lowered when it is written or
    /// lost; [`flush`] reads it. Relaxed: the queue carries the lines.
    pending: AtomicU64,
    writer: Thread,
}

impl StreamQueue {
    fn new(writer: Thread) -> Self {
        Self { lines: ArrayQueue::new(LINES_MAX), pending: AtomicU64::new(0), writer }
    }

    fn put(&self, line: Vec<u8>) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        if self.lines.push(line).is_err() {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            lose();
        }
        self.writer.unpark();
    }

    fn is_quiet(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }
}

/// Writes to a stream, on a thread of its own: the only one that a slow reader can block.
struct StreamWriter<'a> {
    stream: Stream,
    queue: &'a StreamQueue,
    /// Lost lines that were reported.
    told: u64,
    /// A line was cut off: the next one needs a line break first.
    is_torn: bool,
    /// There was no room for the last line: the next one does not wait.
    is_stuck: bool,
}

impl<'a> StreamWriter<'a> {
    const fn new(stream: Stream, queue: &'a StreamQueue) -> Self {
        Self { stream, queue, told: 0, is_torn: false, is_stuck: false }
    }

    fn write_for_ever(&mut self) -> ! {
        loop {
            let Some(line) = self.queue.lines.pop() else {
                thread::park();
                continue;
            };
            if self.write(&line) {
                self.tell_of_losses();
            } else {
                lose();
            }
            self.queue.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, line: &[u8]) -> bool {
        let patience = if self.is_stuck { Duration::ZERO } else { PATIENCE };
        let mended = if self.is_torn { write_all(self.stream, b"\n", patience) } else { Ok(()) };
        let done = mended.and_then(|()| {
            self.is_torn = false;
            write_all(self.stream, line, patience)
        });
        self.is_stuck = done.as_ref().is_err_and(|cut| cut.no_room);
        self.is_torn |= done.as_ref().is_err_and(|cut| cut.written > 0);
        done.is_ok()
    }

    /// Reports lost lines in the log itself.
    fn tell_of_losses(&mut self) {
        let lost = lines_lost();
        if self.stream == Stream::Errors && lost > self.told {
            let line =
                format!("{} log lines were lost before this one: nobody read them\n", lost - self.told);
            if self.write(line.as_bytes()) {
                self.told = lost;
            }
        }
    }
}

/// A line that was not written completely.
struct Cut {
    written: usize,
    /// There was no room; otherwise the stream failed.
    no_room: bool,
}

/// Writes all of it, waiting at most so long for room each time.
fn write_all(stream: Stream, line: &[u8], patience: Duration) -> Result<(), Cut> {
    let (errors, results) = (io::stderr(), io::stdout());
    let fd = match stream {
        Stream::Errors => errors.as_fd(),
        Stream::Results => results.as_fd(),
    };
    let mut until = Instant::now() + patience;
    let mut written = 0;
    while written < line.len() {
        if !has_room(fd, until.saturating_duration_since(Instant::now())) {
            return Err(Cut { written, no_room: true });
        }
        let rest = &line[written..];
        match write(fd, &rest[..rest.len().min(PIPE_BYTES)]) {
            Ok(len) if len > 0 => {
                written += len;
                until = Instant::now() + patience;
            }
            Err(Errno::INTR) => {}
            // It reports room and takes nothing: try until the time is up.
            Err(Errno::AGAIN) if Instant::now() < until => thread::sleep(PAUSE),
            Err(Errno::AGAIN) => return Err(Cut { written, no_room: true }),
            Ok(_) | Err(_) => return Err(Cut { written, no_room: false }),
        }
    }
    Ok(())
}

/// Whether a write of [`PIPE_BYTES`] would not block (it may also fail at once); waits for at most `within`.
fn has_room(fd: BorrowedFd<'_>, within: Duration) -> bool {
    let within =
        Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: i64::from(within.subsec_nanos()) };
    loop {
        match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&within)) {
            Err(Errno::INTR) => {}
            // If polling fails, the write itself reports the error.
            polled => return polled != Ok(0),
        }
    }
}
