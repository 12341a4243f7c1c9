//! The shared store over WebDAV and over Azure's blobs, with real servers on loopback: Debian's Apache
//! (`apache2 apache2-utils`), and Azurite from npm, which `DISSIM_AZURITE` names (`azurite-blob`).
//! `.ci/cluster` installs them and runs these.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use support::group::{
    Project, SECRET, SIX, Server, free_port, lines, listening, nothing_is_computed_twice, objects,
    until,
};
use tempfile::TempDir;

/// Apache with one user. It lists a folder at a time, as it does unless told otherwise.
struct Apache {
    folder: TempDir,
    port: u16,
    process: Child,
    password: &'static str,
}

const APACHE: &str = r#"
ServerRoot "@"
ServerName 127.0.0.1
PidFile @/pid
Listen 127.0.0.1:PORT
LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule authz_user_module MODULES/mod_authz_user.so
LoadModule authn_core_module MODULES/mod_authn_core.so
LoadModule authn_file_module MODULES/mod_authn_file.so
LoadModule auth_basic_module MODULES/mod_auth_basic.so
LoadModule dav_module MODULES/mod_dav.so
LoadModule dav_fs_module MODULES/mod_dav_fs.so
User www-data
Group www-data
DavLockDB @/files/.lock
ErrorLog @/error
DocumentRoot @/files
<Directory @/files>
  Dav On
  AuthType Basic
  AuthName group
  AuthUserFile @/users
  Require valid-user
</Directory>
"#;

impl Apache {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        for (mode, path) in [("755", folder.path()), ("777", &files)] {
            assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
        }
        let users = Command::new("htpasswd").args(["-nb", "group", SECRET]).output().unwrap();
        fs::write(folder.path().join("users"), users.stdout).unwrap();
        let text = APACHE
            .replace('@', folder.path().to_str().unwrap())
            .replace("PORT", &port.to_string())
            .replace("MODULES", "/usr/lib/apache2/modules");
        let configuration = folder.path().join("apache.conf");
        fs::write(&configuration, text).unwrap();
        let mut server = Command::new("/usr/sbin/apache2");
        server.arg("-DFOREGROUND").arg("-f").arg(&configuration);
        let process = listening(port, server.stdout(Stdio::null()).stderr(Stdio::null()).spawn());
        Self { folder, port, process, password: SECRET }
    }

    /// The objects below a folder of the group.
    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        objects(&self.folder.path().join("files/group").join(folder))
    }
}

impl Server for Apache {
    fn address(&self) -> String {
        format!("http://127.0.0.1:{}/group", self.port)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let password = self.password.to_owned();
        vec![("WEBDAV_USERNAME", "group".to_owned()), ("WEBDAV_PASSWORD", password)]
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        // Its workers end with it on a signal that it can hear.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "needs Apache"]
fn a_group_works_over_webdav() {
    let server = Apache::start();
    nothing_is_computed_twice(&server);
    assert_eq!((server.objects("records").len(), server.objects("objects").len()), (7, 1));
    assert!(server.objects("claims").is_empty());
}

#[test]
#[ignore = "needs Apache"]
fn status_lists_who_computes_what_on_a_server_that_lists_a_folder_at_a_time() {
    let (server, shared) = (Apache::start(), tempfile::tempdir().unwrap());
    let slow = "  slow:
    kind: command
    with: { shell: \"echo x >> @P/ran; until test -e @P/go; do sleep 0.1; done; echo 1 > out\", outputs: [out] }
";
    let project = || Project::new(&server, slow, shared.path());
    let (first, second) = (project(), project());
    let run = first.start(&server, &["run"]);
    until("it runs", || lines(&shared.path().join("ran")) == 1);
    let status = second.start(&server, &["status"]).wait_with_output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("\ncomputing  slow: "), "{status}");
    fs::write(shared.path().join("go"), "").unwrap();
    assert!(run.wait_with_output().unwrap().status.success());
}

#[test]
#[ignore = "needs Apache"]
fn a_wrong_password_costs_one_warning() {
    let (mut server, shared) = (Apache::start(), tempfile::tempdir().unwrap());
    server.password = "another";
    let (counts, stderr) = Project::new(&server, SIX, shared.path()).run(&server, &[]);
    assert_eq!(counts, "7 tasks: 0 cached, 7 ran, 0 failed");
    let warned: Vec<&str> = stderr.lines().filter(|l| l.starts_with("warning")).collect();
    let address = server.address();
    assert_eq!(
        warned,
        [
            format!(
                "warning: remote store {address} is unavailable, continuing without it: \
                 Server returned non-2xx status code: 401 Unauthorized"
            ),
            format!(
                "warning: 7 results were not sent to {address}; `dissim cache push` sends what is missing"
            ),
        ]
    );
}

/// Azurite with one container.
struct Azurite {
    _folder: TempDir,
    process: Child,
}

/// Azurite's own port: the emulator's address is fixed in its clients.
const AZURITE: u16 = 10000;

impl Azurite {
    fn start() -> Self {
        let program =
            std::env::var_os("DISSIM_AZURITE").expect("DISSIM_AZURITE names azurite-blob");
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new(program);
        server.args(["--blobPort", &AZURITE.to_string(), "--skipApiVersionCheck", "--silent"]);
        server.arg("--location").arg(folder.path());
        let process = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Self { _folder: folder, process: listening(AZURITE, process) };
        // It makes no container by itself.
        let made = Command::new("python3").arg("tests/support/container.py").status().unwrap();
        assert!(made.success(), "the container is made");
        server
    }
}

impl Server for Azurite {
    fn address(&self) -> String {
        "az://group/folder".to_owned()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("AZURE_STORAGE_USE_EMULATOR", "true".to_owned())]
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
#[ignore = "needs Azurite"]
fn a_group_works_over_azure() {
    // Several send the same large file at the same time: the second finds its parts forgotten.
    nothing_is_computed_twice(&Azurite::start());
}
