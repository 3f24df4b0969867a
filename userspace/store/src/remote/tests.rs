use std::io::Read;

use object_store::memory::InMemory;

use super::*;

fn remote(names: &[&str]) -> Remote {
    let store = Arc::new(InMemory::new());
    let remote = Remote::over(store.clone(), "memory://calls/").unwrap();
    for name in names {
        let key = Key::parse(name).unwrap();
        remote.0.runtime.block_on(store.put(&key, (*name).to_owned().into())).unwrap();
    }
    remote
}

#[test]
fn what_lies_where() {
    let remote = remote(&["catalog/calls/day=2026-11-22/part-1.parquet", "catalog/calls/x", "catalogs/y"]);
    assert_eq!(remote.path("a/b"), PathBuf::from("memory://calls/a/b"));
    assert_eq!(remote.names("catalog").unwrap(), ["calls"]);
    assert_eq!(remote.names("catalog/calls").unwrap(), ["day=2026-11-22", "x"]);
    assert!(remote.names("recordings").unwrap().is_empty());
    let listed = remote.list(&["catalog".to_owned(), "none".to_owned()]).unwrap();
    assert_eq!(listed.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
    let parts = remote.parts(&["catalog/calls".to_owned()]).unwrap();
    assert_eq!(
        parts[0].iter().map(Ranged::path).collect::<Vec<_>>(),
        [remote.path("catalog/calls/day=2026-11-22/part-1.parquet")]
    );
}

#[test]
fn what_objects_say() {
    let remote = remote(&["a", "b/c"]);
    let names = ["b/c", "none", "a"].map(str::to_owned);
    assert_eq!(remote.read(&names).unwrap(), [Some(b"b/c".to_vec()), None, Some(b"a".to_vec())]);
    let mut text = String::new();
    remote.fetch("b/c").unwrap().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "b/c");
    assert!(remote.fetch("none").unwrap().is_none());
    let hashes = remote.hashes(&[("b/c", 3), ("b/c", 1), ("a", 0)], |_| {}).unwrap();
    assert_eq!(hashes, [b"b/c".as_slice(), b"b", b""].map(crate::seal::hash_of));
    remote.remove(&names).unwrap();
    assert!(remote.names("").unwrap().is_empty());
}

#[test]
fn a_failure_is_a_line() {
    let told = |source: &str| {
        let error = object_store::Error::Generic { store: "S3", source: source.to_owned().into() };
        reason(&error).to_string()
    };
    let xml = "404: <?xml?><Error><Code>NoSuchBucket</Code><Message>There is\nnone</Message></Error>";
    assert_eq!(told(xml), "NoSuchBucket: There is none");
    assert_eq!(told("Connection refused (os error 111)"), "Connection refused (os error 111)");
    let source = "403 Forbidden: ".into();
    let denied = object_store::Error::PermissionDenied { path: "x".to_owned(), source };
    assert!(reason(&denied).to_string().starts_with("403 Forbidden; look at AWS_ACCESS_KEY_ID"));
}

#[test]
fn what_is_no_store() {
    for (url, told) in [
        ("ftp://host/x", "neither s3://BUCKET/PREFIX nor file:///DIRECTORY"),
        ("https://example.org/x", "neither s3://BUCKET/PREFIX nor file:///DIRECTORY"),
    ] {
        let error = Remote::open(url).unwrap_err().to_string();
        assert!(error.starts_with(url) && error.contains(told), "{error}");
    }
}
