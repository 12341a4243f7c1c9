//! An S3 server on loopback: s3s-fs from crates.io. `DISSIM_S3_SERVER` names it; `.ci/cluster` installs it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::group::{self, SECRET, free_port, listening, objects};

/// An S3 server with one bucket; it may be stopped and started again.
pub struct Server {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bucket")).unwrap();
        let mut server = Self { folder, port: free_port(), process: None };
        server.resume();
        server
    }

    pub fn resume(&mut self) {
        let program = std::env::var_os("DISSIM_S3_SERVER").expect("DISSIM_S3_SERVER names s3s-fs");
        let process = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--access-key", "group", "--secret-key", SECRET])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(listening(self.port, process));
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// The objects below a folder.
    pub fn objects(&self, folder: &str) -> Vec<PathBuf> {
        objects(&self.folder.path().join("bucket/group").join(folder))
    }
}

impl group::Server for Server {
    fn address(&self) -> String {
        "s3://bucket/group".to_owned()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ACCESS_KEY_ID", "group".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
