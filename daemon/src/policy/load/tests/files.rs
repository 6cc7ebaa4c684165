//! Several files, directories, links.

use super::*;

#[test]
fn ids_and_names_and_destinations_are_unique_over_files() {
    let one = rule("id: a, role: analyst, allow: [sql.tx], on: [shop]");
    let two = "version: 1\nrules:\n  - {id: a, role: '*', deny: [sql.ddl], on: [shop]}\n";
    let errors = Policy::from_texts([("one", one.as_str()), ("two", two)], 1).expect_err("twice");
    assert_eq!(
        errors.to_string(),
        "two:3:10: error: a second rule `a`\n 3 |   - {id: a, role: '*', deny: [sql.ddl], on: [shop]}\n   \
         |          ^\n   = help: the first is at one:6"
    );
    let two = "version: 1\nroles: {analyst: {}}\nservices:\n  web: {proto: postgres, at: ['x:1', \
               '[::ffff:127.0.0.1]:5432'], user: u, credential: 'file:/x'}\n";
    let errors = Policy::from_texts([("one", one.as_str()), ("two", two)], 1).expect_err("twice");
    let said: Vec<_> = errors
        .problems()
        .iter()
        .map(|p| (p.line(), p.message()))
        .collect();
    let clash = "127.0.0.1:5432 is the destination of two services";
    assert_eq!(said, [(2, "a second role `analyst`"), (4, clash)]);
    assert!(
        errors.problems()[1]
            .help()
            .is_some_and(|help| help.contains("service shop at one:4"))
    );
}

#[test]
fn an_unreadable_file_does_not_make_its_names_unknown() {
    let rules = "version: 1\nrules: [{id: a, role: boss, allow: [sql.tx], on: [web]}]\n";
    let errors = Policy::from_texts([("a", rules), ("b", "version: 1: 2\n")], 1);
    let errors = errors.expect_err("refused");
    let files: Vec<_> = errors.problems().iter().map(Problem::file).collect();
    assert_eq!(files, ["b"], "{errors}");
}

fn load_error(path: &Path) -> String {
    let errors = Policy::load(path, 1).expect_err("refused");
    errors
        .to_string()
        .replace(&path.display().to_string(), "DIR")
}

#[test]
fn a_directory_is_loaded_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("directory");
    let put = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("write");
    let path = dir.path();
    assert_eq!(
        load_error(&path.join("none")),
        "DIR: error: can't be read: No such file or directory"
    );
    assert!(load_error(path).starts_with("DIR: error: no policy file in this directory"));

    put("b.yaml", BASE.as_bytes());
    put(
        "a.yml",
        b"version: 1\nrules: [{id: a, role: analyst, allow: [sql.tx], on: [shop]}]\n",
    );
    put(".c.yaml", b"not read");
    put("d.yaml~", b"not read");
    let (policy, warnings) = Policy::load(path, 9).expect("loads");
    assert_eq!((policy.generation(), warnings.len()), (9, 0));
    let (_, warnings) = Policy::load(&path.join("b.yaml"), 9).expect("one file loads");
    assert_eq!(warnings.len(), 3);

    // The rest is told together, and a.yml's role and service are not called unknown.
    put("b.yaml", b"\xef\xbb\xbfversion: 1\n");
    put("e.yaml", b"version: 1\nx: \xff\n");
    put("f.yaml", &vec![b'#'; 10 << 20]);
    put("g.yaml", b"version: 1\nrulez: 1\n");
    fs::create_dir(path.join("h.yaml")).expect("directory");
    std::os::unix::fs::symlink(path.join("gone"), path.join("i.yaml")).expect("link");
    assert_eq!(
        load_error(path),
        "DIR/b.yaml: error: begins with a byte order mark\n  = help: save it as UTF-8 without a byte order mark\n\
         DIR/e.yaml: error: line 2 is not UTF-8\n  = help: save it as UTF-8 without a byte order mark\n\
         DIR/f.yaml: error: larger than 1024 KiB\n  = help: split it into several files\n\
         DIR/h.yaml: error: not a regular file\n\
         DIR/i.yaml: error: can't be read: No such file or directory\n\
         DIR/g.yaml:2:1: error: unknown field `rulez` of a policy file\n 2 | rulez: 1\n   | ^^^^^\n   = help: did you mean `rules`?"
    );
}

#[test]
fn symbolic_links_are_followed() {
    let (dir, elsewhere) = (
        tempfile::tempdir().expect("dir"),
        tempfile::tempdir().expect("dir"),
    );
    let target = elsewhere.path().join("shop");
    fs::write(&target, BASE).expect("write");
    std::os::unix::fs::symlink(&target, dir.path().join("shop.yaml")).expect("link");
    let (policy, _) = Policy::load(dir.path(), 1).expect("loads");
    assert_eq!(policy.services().count(), 1);
}
