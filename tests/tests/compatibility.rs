//! docs/compatibility.md tells what the code does: its tables of commands come from the
//! table that runs them, those of differences from the one that the differential tests use.

use std::fs;

use corelane_tests::differences;
use corelane_tests::source::root;

/// Set, the tables are written instead of compared.
const WRITE: &str = "CORELANE_WRITE_DOCS";

/// Compares what stands between two marks with what the code says, or writes it there.
fn check(section: &str, tables: &str) {
    let path = root().join("docs/compatibility.md");
    let text = fs::read_to_string(&path).expect("docs/compatibility.md");
    let (begin, end) = (format!("<!-- {section}: begin -->\n"), format!("<!-- {section}: end -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin:?}"));
    let (found, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end:?}"));
    if std::env::var_os(WRITE).is_some() {
        let text = [head, &begin, tables, &end, tail].concat();
        fs::write(&path, text).expect("docs/compatibility.md can be written");
        return;
    }
    assert_eq!(
        found, tables,
        "run `{WRITE}=1 cargo test -p corelane-tests --test compatibility` and commit the result"
    );
}

#[test]
fn the_tables_are_those_of_the_code() {
    check("RESP commands", &corelane_dialect::resp::compatibility());
    check("RESP comparisons", &differences::own_table());
    check("RESP differences", &differences::table(&differences::RESP, "Redis"));
    check("memcached differences", &differences::table(&differences::MEMCACHED, "memcached"));
    check("memcached commands", &corelane_dialect::memcached::compatibility());
}
