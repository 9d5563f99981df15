//! Writes checkpoints as `torch.save` does, without PyTorch: pickles that name its functions, and the two files around them.

use std::io::{Cursor, Write as _};

use tch::{Kind, Tensor};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A Python value.
#[derive(Debug)]
pub enum Py {
    None,
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Py>),
    Tuple(Vec<Py>),
    Set(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// A class or a function.
    Global(&'static str, &'static str),
    /// What a call gives, with the items that it then gets.
    Call(Box<Py>, Vec<Py>, Vec<(Py, Py)>),
    /// An object of a class, with its items and its state.
    New(Box<Py>, Vec<(Py, Py)>, Box<Py>),
    Tensor(Tensor),
    /// The list that this value is in.
    Itself,
}

impl From<i64> for Py {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Py {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<&str> for Py {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Tensor> for Py {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// A dictionary with texts as keys.
pub fn dict<const N: usize>(items: [(&str, Py); N]) -> Py {
    Py::Dict(items.map(|(key, value)| (key.into(), value)).into())
}

pub fn global(module: &'static str, name: &'static str) -> Box<Py> {
    Box::new(Py::Global(module, name))
}

/// An `OrderedDict`, as `state_dict()` gives it.
pub fn ordered(items: Vec<(String, Py)>) -> Py {
    let items = items.into_iter().map(|(key, value)| (Py::Text(key), value)).collect();
    Py::Call(global("collections", "OrderedDict"), Vec::new(), items)
}

/// A value in a pickle, and the numbers that lie outside it.
struct Pickler {
    protocol: u8,
    bytes: Vec<u8>,
    storages: Vec<(usize, Vec<u8>)>,
}

impl Pickler {
    fn global(&mut self, module: &str, name: &str) {
        if self.protocol >= 4 {
            self.text(module);
            self.text(name);
            self.bytes.push(0x93);
        } else {
            self.bytes.extend(format!("c{module}\n{name}\n").bytes());
        }
    }

    fn text(&mut self, text: &str) {
        if self.protocol >= 4 && text.len() < 256 {
            self.bytes.extend([0x8c, text.len() as u8]);
        } else {
            self.bytes.push(b'X');
            self.bytes.extend((text.len() as u32).to_le_bytes());
        }
        self.bytes.extend(text.bytes());
    }

    fn int(&mut self, number: i64) {
        self.bytes.extend([0x8a, 8]);
        self.bytes.extend(number.to_le_bytes());
    }

    fn between_mark_and(&mut self, code: u8, values: &[Py]) {
        self.bytes.push(b'(');
        for value in values {
            self.value(value);
        }
        self.bytes.push(code);
    }

    fn items(&mut self, items: &[(Py, Py)]) {
        if items.is_empty() {
            return;
        }
        self.bytes.push(b'(');
        for (key, value) in items {
            self.value(key);
            self.value(value);
        }
        self.bytes.push(b'u');
    }

    fn value(&mut self, value: &Py) {
        match value {
            Py::None => self.bytes.push(b'N'),
            Py::Int(number) => self.int(*number),
            Py::Float(number) => {
                self.bytes.push(b'G');
                self.bytes.extend(number.to_be_bytes());
            }
            Py::Text(text) => self.text(text),
            Py::Bytes(bytes) => {
                self.bytes.extend([b'C', bytes.len() as u8]);
                self.bytes.extend(bytes);
            }
            Py::List(values) => {
                // Remembered under number 9, which is what `Itself` recalls.
                self.bytes.extend(b"]q\x09");
                self.between_mark_and(b'e', values);
            }
            Py::Itself => self.bytes.extend(b"h\x09"),
            Py::Tuple(values) => self.between_mark_and(b't', values),
            Py::Set(values) if self.protocol >= 4 => {
                self.bytes.push(0x8f);
                self.between_mark_and(0x90, values);
            }
            Py::Set(values) => {
                self.global("__builtin__", "set");
                self.bytes.push(b']');
                self.between_mark_and(b'e', values);
                self.bytes.extend([0x85, b'R']);
            }
            Py::Dict(items) => {
                self.bytes.push(b'}');
                self.items(items);
            }
            Py::Global(module, name) => self.global(module, name),
            Py::Call(function, arguments, items) => {
                self.value(function);
                self.between_mark_and(b't', arguments);
                self.bytes.push(b'R');
                self.items(items);
            }
            Py::New(class, items, state) => {
                self.value(class);
                self.bytes.extend([b')', 0x81]);
                self.items(items);
                self.value(state);
                self.bytes.push(b'b');
            }
            Py::Tensor(tensor) => self.tensor(tensor),
        }
    }

    /// A call of `_rebuild_tensor_v2`.
    fn tensor(&mut self, tensor: &Tensor) {
        let class = match tensor.kind() {
            Kind::Float => "FloatStorage",
            Kind::Half => "HalfStorage",
            Kind::Double => "DoubleStorage",
            Kind::Int64 => "LongStorage",
            other => panic!("{other:?}"),
        };
        let tensor = tensor.contiguous();
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", class);
        self.text(&self.storages.len().to_string());
        self.text("cuda:0");
        self.int(tensor.numel() as i64);
        self.bytes.extend(b"tQ");
        self.storages.push((tensor.numel(), bytes));
        self.int(0);
        for numbers in [tensor.size(), tensor.stride()] {
            let numbers: Vec<Py> = numbers.into_iter().map(Py::Int).collect();
            self.between_mark_and(b't', &numbers);
        }
        self.bytes.push(0x89);
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
    }
}

fn pickled(value: &Py, protocol: u8) -> Pickler {
    let mut pickler = Pickler { protocol, bytes: vec![0x80, protocol], storages: Vec::new() };
    pickler.value(value);
    pickler.bytes.push(b'.');
    pickler
}

/// The archive of PyTorch 1.6 and later.
pub fn archive(value: &Py, protocol: u8) -> Vec<u8> {
    let Pickler { bytes, storages, .. } = pickled(value, protocol);
    let mut files =
        vec![("archive/data.pkl".to_owned(), bytes), ("archive/byteorder".to_owned(), b"little".to_vec())];
    for (index, (_, bytes)) in storages.into_iter().enumerate() {
        files.push((format!("archive/data/{index}"), bytes));
    }
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        writer.start_file(name, stored).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The stream of earlier releases.
pub fn stream(value: &Py) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(pickled(&dict([("protocol_version", 1001.into())]), 2).bytes);
    let Pickler { bytes, storages, .. } = pickled(value, 2);
    file.extend(bytes);
    let keys = (0..storages.len()).map(|key| Py::Text(key.to_string())).collect();
    file.extend(pickled(&Py::List(keys), 2).bytes);
    for (elements, bytes) in storages {
        file.extend((elements as u64).to_le_bytes());
        file.extend(bytes);
    }
    file
}
