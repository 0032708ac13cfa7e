//! A reader at work: `loader drain` in a process of its own, which can be watched, stopped and killed.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output};

use batchmill_protocol::status::{MemberStatus, Status};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Loader, signal, told, wait_for_state};

/// One reader.
#[derive(Debug)]
pub struct Reader {
    /// `None` once its end was waited for.
    child: Option<Child>,
    pid: u32,
}

impl Reader {
    /// Starts it; it is to say a JSON object, with a digest, for each epoch.
    pub fn start(loader: &Loader, arguments: &[&str]) -> Self {
        Self::spawn(&mut loader.client(&[&["drain", "--json", "--digest"], arguments].concat()))
    }

    /// Starts it as a command says.
    pub fn spawn(command: &mut Command) -> Self {
        let child = command.spawn().expect("it runs");
        Self { pid: child.id(), child: Some(child) }
    }

    /// How the loader sees it, once it is a member.
    pub fn member(&self, status: &Status) -> Option<MemberStatus> {
        let mut members = status.streams.iter().flat_map(|stream| &stream.members);
        members.find(|member| member.pid == self.pid).cloned()
    }

    /// Waits until the loader sees it like that, and says how it does.
    pub fn wait_until(&self, loader: &Loader, what: &str, wished: impl Fn(&MemberStatus) -> bool) -> MemberStatus {
        let status = loader.wait_until(what, |status| self.member(status).is_some_and(|member| wished(&member)));
        self.member(&status).expect("just seen")
    }

    /// Stops it with its terminal, as it were.
    pub fn pause(&self) {
        signal(self.pid, Signal::STOP);
        wait_for_state(self.pid, 'T');
    }

    /// Has it go on.
    pub fn go_on(&self) {
        signal(self.pid, Signal::CONT);
    }

    /// Kills it at once, while it is at work.
    pub fn kill(self) {
        signal(self.pid, Signal::KILL);
        assert_eq!(self.end().status.signal(), Some(Signal::KILL.as_raw()), "it was still at work");
    }

    /// Waits for its end.
    pub fn end(mut self) -> Output {
        crate::end(self.child.take().expect("asked once"))
    }

    /// Waits for its end, which must be a good one; the digests of the epochs that it read.
    pub fn digests(self) -> Vec<String> {
        let output = self.end();
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        let epoch = |line| serde_json::from_str::<Value>(line).expect("a JSON object a line");
        lines.lines().map(|line| epoch(line)["digest"].as_str().expect("asked for").to_owned()).collect()
    }

    /// Waits for its end, which must be a bad one; what it says.
    pub fn told(self) -> String {
        told(&self.end())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A failed test must not leave its reader running.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
