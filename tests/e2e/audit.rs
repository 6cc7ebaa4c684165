//! A record that can't be written: statements are refused until it can be again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portcullis_tests::wait;

use crate::stage::{AT_ONCE, Stage};

/// A small tmpfs; taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=512k"),
        )
        .unwrap_or_else(|error| panic!("mount on {}: {error}", at.display()));
        Self(at.to_path_buf())
    }

    /// Takes all the space that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("filler");
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        while file.write_all(b"x").is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("umount {}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_refuses_and_heals() {
    let mut stage = Stage::unstarted(|_| ());
    let disk = SmallDisk::mount(&stage.daemon.path("log"));
    stage.daemon.launch().expect("starts");
    stage.assert_works();
    let mut psql = stage.open_psql();
    assert_eq!(
        psql.query("SELECT count(*) FROM orders")
            .expect("works")
            .trim(),
        "300"
    );

    let filler = disk.fill();
    // The record's last page may have room for a few lines more.
    let refused = (0..200).find_map(|_| {
        let start = Instant::now();
        let answer = psql
            .query("INSERT INTO staging VALUES (1, 'unrecorded?')")
            .expect("answer");
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        answer.contains("ERROR").then_some(answer)
    });
    let refused = refused.expect("the disk is full and nothing was refused");
    assert!(
        !refused.contains(stage.server.agent_password()),
        "{refused}"
    );
    let rows = stage
        .fact("SELECT count(*) FROM staging")
        .parse::<usize>()
        .expect("a number");
    let recorded = fs::read_to_string(stage.daemon.audit_path()).expect("record");
    let decisions = recorded.matches("unrecorded?").count();
    assert!(
        rows <= decisions,
        "{rows} statements ran, {decisions} are recorded"
    );
    drop(psql);

    fs::remove_file(filler).expect("remove");
    wait::until("the record to heal", Duration::from_secs(30), || {
        Ok((stage.psql("SELECT count(*) FROM orders").stdout.trim() == "300").then_some(()))
    })
    .expect("heals");
    // Torn lines would be an error here.
    stage.daemon.audit().expect("the record is whole");
}

#[test]
fn a_record_that_can_not_be_opened_is_an_error_at_start() {
    let mut stage = Stage::unstarted(|_| ());
    fs::create_dir(stage.daemon.audit_path()).expect("a directory in its place");
    let error = stage.daemon.launch().expect_err("it started");
    assert!(format!("{error:#}").contains("audit.jsonl"), "{error:#}");
}

#[test]
fn only_root_can_read_the_record() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new();
    stage.assert_works();
    let mode = fs::metadata(stage.daemon.audit_path())
        .expect("stat")
        .permissions()
        .mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}
