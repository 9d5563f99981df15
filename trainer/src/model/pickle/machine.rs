//! The stack machine of a pickle, cut down to what a dictionary of tensors needs.

use std::collections::HashMap;

use tch::Kind;

use super::tensors::Reason;

const INSTRUCTIONS_MAX: usize = 1_000_000;
const TEXT_BYTES_MAX: usize = 4_096;

/// A value on the stack. Compound ones live in an arena, so that no nesting, however deep, can exhaust the call stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Mark,
    None,
    Bool(bool),
    Int(i64),
    /// A fraction: no tensor needs its value.
    Float,
    Node(usize),
}

/// A compound value.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    /// Little-endian bytes of an integer too long for 64 bits.
    Long(Vec<u8>),
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Global),
    /// A reference to a storage, by key.
    Storage(String),
    Tensor {
        storage: String,
        offset: i64,
        size: Vec<i64>,
        stride: Vec<i64>,
    },
}

/// The only names that a file may import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageType(Kind),
}

/// A finished run.
pub(super) struct Machine {
    pub(super) result: Value,
    arena: Vec<Node>,
    storages: HashMap<String, (Kind, u64)>,
}

impl Machine {
    /// Runs the pickle that starts at `at` and moves `at` behind it.
    pub(super) fn run(bytes: &[u8], at: &mut usize) -> Result<Self, Reason> {
        let machine = Self { result: Value::None, arena: Vec::new(), storages: HashMap::new() };
        let mut run = Run { machine, bytes, at: *at, stack: Vec::new(), memo: HashMap::new() };
        for _ in 0..INSTRUCTIONS_MAX {
            let start = run.at;
            let stop = run.step().map_err(|reason| format!("{reason} (at byte {start})"))?;
            if stop {
                run.machine.result = run.pop()?;
                *at = run.at;
                return Ok(run.machine);
            }
        }
        Err(format!("a pickle has more than {INSTRUCTIONS_MAX} instructions"))
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(index) => self.arena.get(index),
            _ => None,
        }
    }

    pub(super) fn result_node(&self) -> Option<&Node> {
        self.node(self.result)
    }

    pub(super) fn text(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Kind and element count that the object announced for a storage.
    pub(super) fn storage(&self, key: &str) -> Option<(Kind, u64)> {
        self.storages.get(key).copied()
    }

    /// Key, kind and element count of every storage, in no order.
    pub(super) fn storages(&self) -> impl Iterator<Item = (&str, Kind, u64)> {
        self.storages.iter().map(|(key, &(kind, elements))| (key.as_str(), kind, elements))
    }

    fn integers(&self, value: Value) -> Option<Vec<i64>> {
        let Some(Node::Tuple(items)) = self.node(value) else {
            return None;
        };
        items.iter().map(|item| if let Value::Int(n) = item { Some(*n) } else { None }).collect()
    }
}

struct Run<'a> {
    machine: Machine,
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
}

impl Run<'_> {
    /// Executes one instruction; true means that it was STOP.
    fn step(&mut self) -> Result<bool, Reason> {
        let opcode = self.take(1)?[0];
        match opcode {
            b'.' => return Ok(true),
            0x80 => {
                let version = self.take(1)?[0];
                if version != 2 {
                    return Err(format!("pickle protocol {version} where 2 belongs"));
                }
            }
            b'(' => self.stack.push(Value::Mark),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => self.push_integer(1)?,
            b'M' => self.push_integer(2)?,
            b'J' => self.push_integer(4)?,
            0x8a => self.push_long()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            b'X' => self.push_text()?,
            b'}' => self.push(Node::Dict(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items));
            }
            0x85..=0x87 => {
                let from =
                    self.stack.len().checked_sub(usize::from(opcode - 0x84)).ok_or("the stack is empty")?;
                let items = self.stack.split_off(from);
                self.push(Node::Tuple(items));
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b's' => {
                let from = self.stack.len().checked_sub(2).ok_or("the stack is empty")?;
                let items = self.stack.split_off(from);
                self.set_items(items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'c' => self.push_global()?,
            b'Q' => self.push_storage()?,
            b'R' => self.call()?,
            // The state that BUILD would set on the dictionary is PyTorch's version metadata, which no reader needs.
            b'b' => drop(self.pop()?),
            other => return Err(format!("unexpected instruction {other:#04x}")),
        }
        Ok(false)
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Reason> {
        let end = self.at.checked_add(length).ok_or("a length overflows")?;
        let bytes = self.bytes.get(self.at..end).ok_or("the file ends inside a pickle")?;
        self.at = end;
        Ok(bytes)
    }

    fn unsigned(&mut self, length: usize) -> Result<u32, Reason> {
        Ok(self.take(length)?.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    fn push(&mut self, node: Node) {
        self.machine.arena.push(node);
        self.stack.push(Value::Node(self.machine.arena.len() - 1));
    }

    fn pop(&mut self) -> Result<Value, Reason> {
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Reason> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn push_integer(&mut self, length: usize) -> Result<(), Reason> {
        let value = self.unsigned(length)?;
        // The four-byte form is signed, the shorter ones are not.
        let value = if length == 4 { i64::from(value as i32) } else { i64::from(value) };
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn push_long(&mut self) -> Result<(), Reason> {
        let length = usize::from(self.take(1)?[0]);
        let bytes = self.take(length)?.to_vec();
        if length < 8 {
            let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
            let start = if negative { -1_i64 } else { 0 };
            let value = bytes.iter().rev().fold(start, |value, &byte| value << 8 | i64::from(byte));
            self.stack.push(Value::Int(value));
        } else {
            self.push(Node::Long(bytes));
        }
        Ok(())
    }

    fn push_text(&mut self) -> Result<(), Reason> {
        let length = self.unsigned(4)? as usize;
        if length > TEXT_BYTES_MAX {
            return Err(format!("a text has {length} bytes where {TEXT_BYTES_MAX} are allowed"));
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text is not UTF-8")?.to_owned();
        self.push(Node::Text(text));
        Ok(())
    }

    fn put(&mut self, length: usize) -> Result<(), Reason> {
        let index = self.unsigned(length)?;
        let value = *self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, length: usize) -> Result<(), Reason> {
        let index = self.unsigned(length)?;
        let value = *self.memo.get(&index).ok_or_else(|| format!("memo {index} is not set"))?;
        self.stack.push(value);
        Ok(())
    }

    /// The node that the value on top of the stack stands for.
    fn top(&mut self) -> Result<&mut Node, Reason> {
        match self.stack.last() {
            Some(Value::Node(index)) => {
                self.machine.arena.get_mut(*index).ok_or_else(|| "a value is missing".into())
            }
            _ => Err("a container is missing".into()),
        }
    }

    fn set_items(&mut self, items: Vec<Value>) -> Result<(), Reason> {
        let Node::Dict(entries) = self.top()? else {
            return Err("items are set on something that is not a dictionary".into());
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key has no value".into());
        }
        entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Reason> {
        let Node::List(list) = self.top()? else {
            return Err("items are appended to something that is not a list".into());
        };
        list.extend(items);
        Ok(())
    }

    fn line(&mut self) -> Result<String, Reason> {
        let rest = &self.bytes[self.at..];
        let length =
            rest.iter().take(TEXT_BYTES_MAX).position(|&byte| byte == b'\n').ok_or("a name does not end")?;
        let line = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(line)
    }

    fn push_global(&mut self) -> Result<(), Reason> {
        let name = format!("{}.{}", self.line()?, self.line()?);
        let global = match name.as_str() {
            "collections.OrderedDict" => Global::OrderedDict,
            "torch._utils._rebuild_tensor_v2" => Global::RebuildTensor,
            "torch._utils._rebuild_parameter" => Global::RebuildParameter,
            _ => match storage_kind(&name) {
                Some(kind) => Global::StorageType(kind),
                None => return Err(format!("it asks for {name}, which no dictionary of tensors needs")),
            },
        };
        self.push(Node::Global(global));
        Ok(())
    }

    /// `('storage', type, key, location, element count)`, in the legacy format with a `None` behind it.
    fn push_storage(&mut self) -> Result<(), Reason> {
        let id = self.pop()?;
        let machine = &self.machine;
        let Some(Node::Tuple(parts)) = machine.node(id) else {
            return Err("a persistent id is not a tuple".into());
        };
        let &[tag, kind, key, _location, Value::Int(elements), ref view @ ..] = parts.as_slice() else {
            return Err("a persistent id does not describe a storage".into());
        };
        let ([] | [Value::None]) = view else {
            return Err("a persistent id does not describe a whole storage".into());
        };
        let (Some("storage"), Some(Node::Global(Global::StorageType(kind))), Some(key), Ok(elements)) =
            (machine.text(tag), machine.node(kind), machine.text(key), u64::try_from(elements))
        else {
            return Err("a persistent id does not describe a storage".into());
        };
        let (kind, key) = (*kind, key.to_owned());
        if *self.machine.storages.entry(key.clone()).or_insert((kind, elements)) != (kind, elements) {
            return Err(format!("storage {key} is described in two ways"));
        }
        self.push(Node::Storage(key));
        Ok(())
    }

    fn call(&mut self) -> Result<(), Reason> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Some(Node::Global(function)), Some(Node::Tuple(arguments))) =
            (self.machine.node(function), self.machine.node(arguments))
        else {
            return Err("something that is not a function is called".into());
        };
        match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Node::Dict(Vec::new())),
            (Global::RebuildTensor, &[storage, Value::Int(offset), size, stride, _requires_grad, _hooks]) => {
                let (Some(Node::Storage(key)), Some(size), Some(stride)) =
                    (self.machine.node(storage), self.machine.integers(size), self.machine.integers(stride))
                else {
                    return Err("a tensor is described by the wrong values".into());
                };
                let storage = key.clone();
                self.push(Node::Tensor { storage, offset, size, stride });
            }
            // A trained tensor, whether it wants gradients, hooks: the tensor itself.
            (Global::RebuildParameter, &[data, _requires_grad, _hooks])
                if matches!(self.machine.node(data), Some(Node::Tensor { .. })) =>
            {
                self.stack.push(data);
            }
            (function, arguments) => {
                return Err(format!("{function:?} is called with {} arguments", arguments.len()));
            }
        }
        Ok(())
    }
}

/// The number format that a type of storage has.
fn storage_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "torch.FloatStorage" => Kind::Float,
        "torch.DoubleStorage" => Kind::Double,
        "torch.HalfStorage" => Kind::Half,
        "torch.BFloat16Storage" => Kind::BFloat16,
        "torch.LongStorage" => Kind::Int64,
        "torch.IntStorage" => Kind::Int,
        "torch.ShortStorage" => Kind::Int16,
        "torch.CharStorage" => Kind::Int8,
        "torch.ByteStorage" => Kind::Uint8,
        "torch.BoolStorage" => Kind::Bool,
        _ => return None,
    })
}
