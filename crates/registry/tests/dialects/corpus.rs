//! What the fuzz targets start from, and what they have found, checked as they check it.

use std::{fs, path::Path};

use registry::dialect::DialectName;

#[expect(unreachable_pub, reason = "the fuzz targets reach it")]
#[path = "../../fuzz/src/check.rs"]
mod check;

#[test]
fn whatever_is_in_the_corpus_is_read_and_comes_back_or_is_refused() {
    for name in DialectName::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let (mut read, mut refused) = (0, 0);
        for entry in fs::read_dir(folder.join(name.as_str())).expect("a corpus") {
            let path = entry.expect("an input").path();
            let input = fs::read(&path).expect("an input");
            let is_instance = check::check(name, &input);
            *(if is_instance { &mut read } else { &mut refused }) += 1;
        }
        assert!(read >= 3 && refused >= 3, "{name}: {read} and {refused}");
    }
}
