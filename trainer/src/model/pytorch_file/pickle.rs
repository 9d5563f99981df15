//! A pickle as values. Nothing in it is executed: a class or a function is a name, and what a call would give is an object of which only
//! the parts are known. Opcodes: Python's `pickletools`, protocols 0 to 5.

use std::borrow::Cow;
use std::collections::HashMap;

use super::pickle_input::{Input, damaged};

/// Bytes of a pickle at most. The numbers of tensors lie outside it.
pub(super) const PICKLE_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the name of a class or a function at most.
const GLOBAL_BYTES_MAX: usize = 500;
/// Values of one pickle at most: a bound on memory. As many may be pushed on its stack once more. A checkpoint of the largest network has
/// some ten thousand.
const VALUES_MAX: usize = 1 << 22;

/// The place of a value among those of its pickle. Values refer to each other by it, so a pickle may repeat a value or contain itself.
pub(super) type Id = u32;

/// A value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// What no tensor depends on: `None`, a fraction.
    Other,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    /// Bytes, and whole numbers of more than 64 bits.
    Bytes(&'a [u8]),
    /// A tuple, a list or a set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or a function: `module.name`.
    Global(String),
    /// What the file keeps outside the pickle, by the value that names it.
    Persistent(Id),
    Object(Box<Object>),
}

/// What a call would give.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) callable: Id,
    pub(super) arguments: Id,
    /// The attributes that it is given, or whatever else its class takes.
    pub(super) state: Option<Id>,
    /// What it holds if its class is a kind of dictionary.
    pub(super) items: Vec<(Id, Id)>,
}

/// The values of a pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
    /// Bytes up to its end.
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the beginning of these bytes.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            input: Input { bytes, at: 0 },
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            pushed: 0,
        };
        let root = machine.run()?;
        Ok(Self { values: machine.values, root, length: machine.input.at })
    }

    /// The value that the pickle is of.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// A value of this pickle.
    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        // Every id was given out for a value that is there.
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    /// All values, in no order that matters.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value<'a>> {
        self.values.iter()
    }
}

/// A class or a function. A pickle may refer to one text many times, and each name is a text of its own.
fn global<'a>(module: &str, name: &str) -> Result<Value<'a>, String> {
    if module.len() + name.len() > GLOBAL_BYTES_MAX {
        return Err(format!("the name of a class has more than {GLOBAL_BYTES_MAX} bytes"));
    }
    Ok(Value::Global(format!("{module}.{name}")))
}

/// A stack machine, as Python's is.
struct Machine<'a> {
    input: Input<'a>,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// How long the stack was at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pushed: usize,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let code = self.input.byte()?;
            if code == b'.' {
                return self.pop();
            }
            let done =
                self.number(code)? || self.text(code)? || self.container(code)? || self.object(code)?;
            if !done {
                self.rearrange(code)?;
            }
        }
    }

    /// Constants and numbers.
    fn number(&mut self, code: u8) -> Result<bool, String> {
        let value = match code {
            b'N' => Value::Other,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(i64::from(self.input.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.input.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.input.array()?))),
            b'G' => {
                self.input.take(8)?;
                Value::Other
            }
            b'F' => {
                self.input.line()?;
                Value::Other
            }
            b'I' | b'L' => match self.input.line()? {
                b"00" => Value::Bool(false),
                b"01" => Value::Bool(true),
                digits => whole_number(digits),
            },
            0x8a => {
                let length = usize::from(self.input.byte()?);
                long(self.input.take(length)?)
            }
            0x8b => {
                let length = self.input.length4()?;
                long(self.input.take(length)?)
            }
            _ => return Ok(false),
        };
        self.push_value(value)?;
        Ok(true)
    }

    /// Texts and bytes. A Python 2 string is read as a text.
    fn text(&mut self, code: u8) -> Result<bool, String> {
        let value = match code {
            b'X' | b'T' => {
                let length = self.input.length4()?;
                Value::Text(String::from_utf8_lossy(self.input.take(length)?))
            }
            0x8c | b'U' => {
                let length = usize::from(self.input.byte()?);
                Value::Text(String::from_utf8_lossy(self.input.take(length)?))
            }
            0x8d => {
                let length = self.input.length8()?;
                Value::Text(String::from_utf8_lossy(self.input.take(length)?))
            }
            b'V' => Value::Text(String::from_utf8_lossy(self.input.line()?)),
            b'S' => {
                let line = self.input.line()?;
                let inner = line.get(1..line.len().saturating_sub(1)).unwrap_or_default();
                Value::Text(String::from_utf8_lossy(inner))
            }
            b'B' => {
                let length = self.input.length4()?;
                Value::Bytes(self.input.take(length)?)
            }
            b'C' => {
                let length = usize::from(self.input.byte()?);
                Value::Bytes(self.input.take(length)?)
            }
            0x8e | 0x96 => {
                let length = self.input.length8()?;
                Value::Bytes(self.input.take(length)?)
            }
            _ => return Ok(false),
        };
        self.push_value(value)?;
        Ok(true)
    }

    /// Tuples, lists, sets and dictionaries.
    fn container(&mut self, code: u8) -> Result<bool, String> {
        match code {
            b')' | b']' | 0x8f => self.push_value(Value::Sequence(Vec::new()))?,
            b'}' => self.push_value(Value::Dict(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push_value(Value::Sequence(items))?;
            }
            0x85..=0x87 => {
                let mut items = (0x85..=code).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.push_value(Value::Sequence(items))?;
            }
            b'd' => {
                let items = pairs(&self.pop_to_mark()?)?;
                self.push_value(Value::Dict(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let items = pairs(&self.pop_to_mark()?)?;
                self.set_items(items)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Classes, calls that are not made, and what lies outside the pickle.
    fn object(&mut self, code: u8) -> Result<bool, String> {
        match code {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let global = global(&String::from_utf8_lossy(module), &String::from_utf8_lossy(name))?;
                self.push_value(global)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.get(module), self.get(name)) else {
                    return Err("a class of the pickle has no name".into());
                };
                let global = global(module, name)?;
                self.push_value(global)?;
            }
            // Extensions are numbers for classes that only the writer knows.
            0x82..=0x84 => {
                self.input.take(1 << (code - 0x82))?;
                self.push_value(Value::Global("an extension".into()))?;
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.push_object(callable, arguments)?;
            }
            0x92 => {
                let (_, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.push_object(callable, arguments)?;
            }
            b'o' => {
                let mut parts = self.pop_to_mark()?;
                if parts.is_empty() {
                    return Err("a class of the pickle has no name".into());
                }
                let callable = parts.remove(0);
                let arguments = self.add(Value::Sequence(parts))?;
                self.push_object(callable, arguments)?;
            }
            b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let global = global(&String::from_utf8_lossy(module), &String::from_utf8_lossy(name))?;
                let parts = self.pop_to_mark()?;
                let (callable, arguments) = (self.add(global)?, self.add(Value::Sequence(parts))?);
                self.push_object(callable, arguments)?;
            }
            b'b' => {
                let state = self.pop()?;
                // A dictionary may have attributes too; they are of no interest.
                if let Value::Object(object) = self.top()? {
                    object.state = Some(state);
                }
            }
            b'P' => {
                let name = Value::Text(String::from_utf8_lossy(self.input.line()?));
                let name = self.add(name)?;
                self.push_value(Value::Persistent(name))?;
            }
            b'Q' => {
                let name = self.pop()?;
                self.push_value(Value::Persistent(name))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The stack, the memo, and marks of the format itself.
    fn rearrange(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'(' => {
                self.count()?;
                self.marks.push(self.stack.len());
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_to_mark()?;
            }
            b'2' => {
                let id = self.last()?;
                self.push(id)?;
            }
            b'q' => {
                let place = u32::from(self.input.byte()?);
                self.remember(place)?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.input.array()?);
                self.remember(place)?;
            }
            b'p' => {
                let place = self.place()?;
                self.remember(place)?;
            }
            0x94 => {
                let place = u32::try_from(self.memo.len()).map_err(|_| damaged())?;
                self.remember(place)?;
            }
            b'h' => {
                let place = u32::from(self.input.byte()?);
                self.recall(place)?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.input.array()?);
                self.recall(place)?;
            }
            b'g' => {
                let place = self.place()?;
                self.recall(place)?;
            }
            0x80 => {
                self.input.byte()?;
            }
            0x95 => {
                self.input.take(8)?;
            }
            other => return Err(format!("the pickle is damaged: {other:#04x} is none of its opcodes")),
        }
        Ok(())
    }

    fn append(&mut self, added: Vec<Id>) -> Result<(), String> {
        match self.top()? {
            Value::Sequence(items) => items.extend(added),
            Value::Object(_) => {}
            _ => return Err("the pickle is damaged: something is put into what is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, added: Vec<(Id, Id)>) -> Result<(), String> {
        match self.top()? {
            Value::Dict(items) => items.extend(added),
            Value::Object(object) => object.items.extend(added),
            _ => return Err("the pickle is damaged: something is put into what is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let id = self.last()?;
        self.count()?;
        self.memo.insert(place, id);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let id = *self.memo.get(&place).ok_or_else(damaged)?;
        self.push(id)
    }

    fn push_object(&mut self, callable: Id, arguments: Id) -> Result<(), String> {
        let object = Object { callable, arguments, state: None, items: Vec::new() };
        self.push_value(Value::Object(Box::new(object)))
    }

    fn push_value(&mut self, value: Value<'a>) -> Result<(), String> {
        let id = self.add(value)?;
        self.push(id)
    }

    fn add(&mut self, value: Value<'a>) -> Result<Id, String> {
        self.count()?;
        let id = Id::try_from(self.values.len()).map_err(|_| damaged())?;
        self.values.push(value);
        Ok(id)
    }

    fn push(&mut self, id: Id) -> Result<(), String> {
        self.count()?;
        self.stack.push(id);
        Ok(())
    }

    /// Counts what takes memory.
    fn count(&mut self) -> Result<(), String> {
        self.pushed += 1;
        if self.pushed > 2 * VALUES_MAX {
            return Err(format!("its pickle has more than {VALUES_MAX} values"));
        }
        Ok(())
    }

    fn get(&self, id: Id) -> &Value<'a> {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    fn last(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(damaged)
    }

    fn top(&mut self) -> Result<&mut Value<'a>, String> {
        let id = self.last()?;
        self.values.get_mut(id as usize).ok_or_else(damaged)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return Err(damaged());
        }
        self.stack.pop().ok_or_else(damaged)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or_else(damaged)?;
        Ok(self.stack.split_off(mark))
    }

    /// A place in the memo, written in digits.
    fn place(&mut self) -> Result<u32, String> {
        std::str::from_utf8(self.input.line()?)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(damaged)
    }
}

/// Keys and values by turns.
fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    } else {
        Err(damaged())
    }
}

fn whole_number<'a>(digits: &'a [u8]) -> Value<'a> {
    let digits = digits.strip_suffix(b"L").unwrap_or(digits);
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    number.map_or(Value::Bytes(digits), Value::Int)
}

/// Two's complement, the lowest byte first.
fn long(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Bytes(bytes);
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
