use std::collections::BTreeMap;

use super::refuse::complaints;

type Files<'a> = &'a [(&'a str, &'a str)];

const PLAN: &str = "mod grid;\nmod limits;\npub use grid::Grid;\npub use limits::*;\n";
const GRID: &str = "pub struct Grid;\n";
const LIMITS: &str = "pub const LIMIT: u64 = 1;\n";

/// What the check says of a crate with the module `plan`, of the files `grid` and `limits`, and these files.
fn said(files: Files<'_>) -> Vec<String> {
    let mut texts = BTreeMap::from([
        ("c/src/lib.rs", "mod plan;\nmod spec;\n"),
        ("c/src/plan/mod.rs", PLAN),
        ("c/src/plan/grid.rs", GRID),
        ("c/src/plan/limits.rs", LIMITS),
        ("c/src/spec.rs", "pub struct Spec;\n"),
    ]);
    texts.extend(files.iter().copied());
    let read = |file: &str| texts.get(file).map(|text| (*text).to_owned());
    complaints(texts.keys().copied(), &read).unwrap()
}

/// Whether `spec` needs `grid` because of this text in `spec.rs`; the grid needs the spec in any case.
fn needs_grid(text: &str) -> bool {
    let back = "use crate::spec::Spec;\npub struct Grid(Spec);\nimpl Grid { pub fn new() -> Self { Self(Spec) } }\n\
        #[macro_export]\nmacro_rules! grid { () => {} }\n";
    !said(&[("c/src/spec.rs", text), ("c/src/plan/grid.rs", back)]).is_empty()
}

#[test]
fn a_circle_through_a_re_export_is_told_with_the_files_that_define_the_names() {
    let files = [
        ("c/src/spec.rs", "use crate::plan::Grid;\npub struct Spec(Grid);\n"),
        ("c/src/plan/grid.rs", "use crate::spec::Spec;\npub struct Grid(Spec);\n"),
    ];
    assert_eq!(
        said(&files),
        ["c/src/spec.rs -> c/src/plan/grid.rs (crate::plan::Grid) -> c/src/spec.rs (crate::spec::Spec)"]
    );
}

#[test]
fn files_that_need_each_other_one_way_only_are_no_circle() {
    assert!(said(&[]).is_empty());
    // `limits` and `grid` are beside each other in one table of contents, which is no file that is needed.
    let files = [
        (
            "c/src/spec.rs",
            "use crate::plan::{self, Grid};\npub struct Spec(Grid, [u8; plan::LIMIT as usize]);\n",
        ),
        ("c/src/plan/grid.rs", "use super::LIMIT;\npub struct Grid([u8; LIMIT as usize]);\n"),
    ];
    assert!(said(&files).is_empty());
}

#[test]
fn what_only_tests_need_is_no_need() {
    assert!(needs_grid("pub struct Spec;\nfn f(_: crate::plan::Grid) {}\n"));
    for text in [
        "pub struct Spec;\n#[cfg(test)]\nmod tests { use crate::plan::Grid; }\n",
        "pub struct Spec;\n#[cfg(test)]\nuse crate::plan::Grid;\n",
        "pub struct Spec;\n#[cfg(all(test, unix))]\nfn f(_: crate::plan::Grid) {}\n",
        "pub struct Spec;\nimpl Spec { #[cfg(test)] fn f(_: crate::plan::Grid) {} }\n",
        "pub struct Spec;\n#[cfg(test)]\nmod not_there;\n",
    ] {
        assert!(!needs_grid(text), "{text}");
    }
    assert!(needs_grid("pub struct Spec;\n#[cfg(not(test))]\nuse crate::plan::Grid;\n"));
    assert!(needs_grid("pub struct Spec;\n#[cfg(any(test, unix))]\nuse crate::plan::Grid;\n"));
}

#[test]
fn every_way_to_write_a_path_is_seen() {
    for text in [
        "use crate::plan::grid::Grid as Table;\n",
        "use super::plan::{Grid};\n",
        "use crate::plan;\nfn f() -> plan::Grid { loop {} }\n",
        "use crate::plan as other;\nfn f() { other::Grid::new(); }\n",
        "use crate::plan::*;\nfn f(_: Grid) {}\n",
        "fn f() { use crate::plan; plan::Grid::new(); }\n",
        "fn f() { println!(\"{}\", 1 + crate::plan::Grid::new()); }\n",
        "macro_rules! m { () => { $crate::plan::Grid::new() } }\n",
        "#[serde(default = \"crate::plan::Grid::new\")]\nstruct S;\n",
        "#[arg(value_parser = crate::plan::Grid::new)]\nstruct S;\n",
        "mod inner { use super::super::plan::Grid; }\n",
        "fn f(_: Vec<Option<crate::plan::Grid>>) {}\n",
        "use crate::grid;\ngrid!();\n",
        // A macro may define what nobody writes down.
        "use crate::plan::grid::GridByMacro;\n",
    ] {
        assert!(needs_grid(&format!("pub struct Spec;\n{text}")), "{text}");
    }
    for text in [
        "use ::plan::Grid;\n",
        "use other::plan::Grid;\n",
        "fn f(plan: T) { plan.grid.new(); println!(\"crate::plan::Grid\"); }\n",
        "/// [`crate::plan::Grid`]\nstruct S;\n",
        "use crate::plan::LIMIT;\n",
        "use crate::plan::*;\nfn f() -> u64 { LIMIT }\n",
        "mod plan { pub struct Grid; }\nuse plan::Grid;\n",
        "pub(in crate::plan) struct S;\n",
    ] {
        assert!(!needs_grid(&format!("pub struct Spec;\n{text}")), "{text}");
    }
}

#[test]
fn a_file_that_hands_names_on_is_needed_for_them_unless_it_is_a_table_of_contents() {
    let root = ("c/src/lib.rs", "mod plan;\nmod spec;\nmod user;\n");
    let user = ("c/src/user.rs", "use crate::spec::Grid;\npub struct User(Grid);\n");
    let spec = ("c/src/spec.rs", "pub use crate::plan::Grid;\nuse crate::user::User;\n");
    assert_eq!(said(&[root, user, spec]).len(), 1);
    let folder = [
        root,
        user,
        ("c/src/spec/mod.rs", "pub mod rules;\npub use crate::plan::Grid;\n"),
        ("c/src/spec/rules.rs", "use crate::user::User;\n"),
    ];
    let mut texts = BTreeMap::from([("c/src/plan/mod.rs", PLAN), ("c/src/plan/grid.rs", GRID)]);
    texts.insert("c/src/plan/limits.rs", LIMITS);
    texts.extend(folder);
    let read = |file: &str| texts.get(file).map(|text| (*text).to_owned());
    assert!(complaints(texts.keys().copied(), &read).unwrap().is_empty());
}

#[test]
fn names_that_go_around_in_circles_end() {
    let files = [
        (
            "c/src/spec.rs",
            "pub use crate::plan::*;\npub use self::X as Y;\npub use self::Y as X;\nfn f(_: X, _: Z) {}",
        ),
        ("c/src/plan/mod.rs", "pub use crate::spec::*;\nmod grid;\nmod limits;\n"),
    ];
    assert!(said(&files).is_empty());
}

#[test]
fn every_crate_is_checked_and_every_module_must_be_there() {
    let program = [
        ("d/src/main.rs", "mod one;\nuse one::One;\npub struct Two;\n"),
        ("d/src/one.rs", "mod part;\npub use part::One;\n"),
        ("d/src/one/part.rs", "use crate::Two;\npub struct One;\n"),
        ("e/src/bin/tool.rs", "mod missing;\n"),
    ];
    assert_eq!(said(&program[..3]).len(), 1);
    let texts = BTreeMap::from(program);
    let read = |file: &str| texts.get(file).map(|text| (*text).to_owned());
    let error = complaints(texts.keys().copied(), &read).unwrap_err();
    assert!(error.to_string().contains("e/src/bin/missing.rs"), "{error}");
}
