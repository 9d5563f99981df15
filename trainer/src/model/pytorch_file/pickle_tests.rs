//! Tests of the reader of pickles.

use super::*;

fn shown(pickle: &Pickle, id: Id) -> String {
    let all = |ids: &[Id]| ids.iter().map(|&id| shown(pickle, id)).collect::<Vec<_>>().join(" ");
    let items = |items: &[(Id, Id)]| {
        let items = items.iter().map(|&(k, v)| format!("{}:{}", shown(pickle, k), shown(pickle, v)));
        items.collect::<Vec<_>>().join(" ")
    };
    match pickle.value(id) {
        Value::Other => "_".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => format!("b{}", bytes.len()),
        Value::Sequence(ids) => format!("[{}]", all(ids)),
        Value::Dict(pairs) => format!("{{{}}}", items(pairs)),
        Value::Global(name) => format!("<{name}>"),
        Value::Persistent(id) => format!("@{}", shown(pickle, *id)),
        Value::Object(object) => {
            let state = object.state.map_or(String::new(), |state| format!("!{}", shown(pickle, state)));
            let inside = items(&object.items);
            format!("{}{}{{{inside}}}{state}", all(&[object.callable]), all(&[object.arguments]))
        }
    }
}

fn read(bytes: &[u8]) -> Result<String, String> {
    Pickle::read(bytes).map(|pickle| shown(&pickle, pickle.root()))
}

#[test]
fn values_of_all_protocols_are_read() {
    let cases: [(&[u8], &str); 12] = [
        // Protocol 0, as Python 2 wrote it.
        (b"(dp0\nS'lr'\np1\nF0.5\nsS'n'\nI3\nsS'big'\nL12L\nsVon\nI01\ns.", "{lr:_ n:3 big:12 on:true}"),
        (b"\x80\x02}q\x00(K\x01J\xff\xff\xff\xffM\x01\x02\x8a\x01\x80\x89Nu.", "{1:-1 513:-128 false:_}"),
        (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "b10"),
        (b"\x80\x02]q\x00(K\x01h\x00Nq\x022e.", "[1 [1 "),
        (b"\x80\x02c__builtin__\nset\n]K\x07a\x85R.", "<__builtin__.set>[[7]]{}"),
        (b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrG\0\0\0\0\0\0\0\0sb.", "<argparse.Namespace>[]{}!{lr:_}"),
        (b"\x80\x02ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(K\x01K\x02u.", "<collections.defaultdict>[<__builtin__.list>]{1:2}"),
        (b"\x80\x02(K\x01K\x02K\x03tQ.", "@[1 2 3]"),
        (b"Pname\n.", "@name"),
        // Protocol 4: frames, the memo by position, classes by texts.
        (b"\x80\x04\x95\x20\0\0\0\0\0\0\0\x8c\x01m\x94\x8c\x01C\x94\x93\x94)\x81\x94}\x94\x8c\x01a\x94h\x01sb.", "<m.C>[]{}!{a:C}"),
        (b"\x80\x04\x8f(K\x01K\x02\x90(K\x03\x91\x86.", "[[1 2] [3]]"),
        (b"\x80\x05\x96\x02\0\0\0\0\0\0\0abC\x01x\x86(0.", "[b2 b1]"),
    ];
    for (bytes, expected) in cases {
        // A list that contains itself has no end to show.
        if expected == "[1 [1 " {
            let pickle = Pickle::read(bytes).unwrap();
            let Value::Sequence(items) = pickle.value(pickle.root()) else { panic!("{pickle:?}") };
            assert_eq!((items.len(), items[1]), (4, pickle.root()));
        } else {
            assert_eq!(read(bytes).as_deref(), Ok(expected));
        }
    }
}

#[test]
fn old_classes_extensions_and_keywords_are_objects_too() {
    assert_eq!(read(b"(K\x01imodule\nOld\n.").unwrap(), "<module.Old>[1]{}");
    assert_eq!(read(b"(cmodule\nOld\nK\x01o.").unwrap(), "<module.Old>[1]{}");
    assert_eq!(read(b"\x80\x04\x83\x01\x00)}\x92.").unwrap(), "<an extension>[]{}");
}

#[test]
fn damaged_pickles_are_refused_in_a_line() {
    for bytes in [
        &b""[..],
        b".",
        b"K",
        b"\x80\x02h\x00.",
        b"K\x01K\x02s.",
        b"t.",
        b"(K\x01d.",
        b"X\xff\xff\xff\xffabc.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
        b"\x97.",
        b"\xff",
        b"K\x01K\x02a.",
        b"gx\n.",
        b"NN\x93.",
        b"(o.",
    ] {
        let reason = read(bytes).unwrap_err();
        assert!(reason.contains("pickle") && reason.lines().count() == 1, "{bytes:?}: {reason}");
    }
}

#[test]
fn memory_has_a_bound() {
    let many = b"N".repeat(2 * VALUES_MAX);
    assert!(read(&many).unwrap_err().contains("more than 4194304 values"));
    let marks = b"(".repeat(2 * VALUES_MAX + 1);
    assert!(read(&marks).unwrap_err().contains("more than 4194304 values"));
}

#[test]
fn a_text_that_is_referred_to_often_does_not_become_many_long_names() {
    let mut bytes = b"\x80\x04X\x58\x02\0\0".to_vec();
    bytes.extend([b'a'; 600]);
    bytes.extend(b"X\x01\0\0\0b\x93.");
    assert_eq!(read(&bytes).unwrap_err(), "the name of a class has more than 500 bytes");
}
