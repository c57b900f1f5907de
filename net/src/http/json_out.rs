//! Writing JSON into a buffer that the caller keeps.
//!
//! No value tree and no formatting machinery: names are ours and need no
//! escaping, numbers go through `itoa`, texts are escaped. Used by
//! [`crate::http::answer`] and by whoever renders a merchant's page.

/// An object that is being written. Its closing brace comes with [`Object::end`].
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    /// Opens an object at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }
    /// Closes it.
    pub fn end(self) {
        self.out.push(b'}');
    }
    /// A whole number.
    pub fn number(&mut self, name: &'static str, value: impl itoa::Integer) -> &mut Self {
        self.name(name);
        number(self.out, value);
        self
    }
    /// A whole number, or `null`.
    pub fn number_or_null(&mut self, name: &'static str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.number(name, value),
            None => self.raw(name, b"null"),
        }
    }
    /// A string, escaped where it must be.
    pub fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        text(self.out, value);
        self
    }
    /// A string out of bytes that were once checked to be UTF-8 (subjects, references).
    pub fn bytes(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        self.text(name, &String::from_utf8_lossy(value))
    }
    /// A string, if there is one.
    pub fn text_if(&mut self, name: &'static str, value: Option<impl AsRef<str>>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value.as_ref()),
            None => self,
        }
    }
    /// A string out of such bytes, unless it is empty.
    pub fn nonempty(&mut self, name: &'static str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.bytes(name, value) }
    }
    /// A whole number, if there is one.
    pub fn number_if(&mut self, name: &'static str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }
    /// A whole number, unless it is 0.
    pub fn nonzero(
        &mut self,
        name: &'static str,
        value: impl itoa::Integer + Default + PartialEq,
    ) -> &mut Self {
        if value == Default::default() { self } else { self.number(name, value) }
    }
    /// A whole number in quotes, as order ids are shown.
    pub fn quoted(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.name(name);
        self.out.push(b'"');
        number(self.out, value);
        self.out.push(b'"');
        self
    }
    /// Such a number, if there is one.
    pub fn quoted_if(&mut self, name: &'static str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.quoted(name, value),
            None => self,
        }
    }
    /// `true` or `false`.
    pub fn boolean(&mut self, name: &'static str, value: bool) -> &mut Self {
        self.raw(name, if value { b"true" } else { b"false" })
    }
    /// A value that is JSON already.
    pub fn raw(&mut self, name: &'static str, json: &[u8]) -> &mut Self {
        self.name(name);
        self.out.extend_from_slice(json);
        self
    }
    /// An object in the object.
    pub fn object(&mut self, name: &'static str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.name(name);
        object(self.out, fill);
        self
    }
    /// An array in the object.
    pub fn array(&mut self, name: &'static str, fill: impl FnOnce(&mut Array<'_>)) -> &mut Self {
        self.name(name);
        self.out.push(b'[');
        fill(&mut Array { out: self.out, first: true });
        self.out.push(b']');
        self
    }

    fn name(&mut self, name: &'static str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// An array that is being written.
#[derive(Debug)]
pub struct Array<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Array<'_> {
    /// An object as the next element.
    pub fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        self.comma();
        object(self.out, fill);
    }
    /// A string as the next element.
    pub fn text(&mut self, value: &str) {
        self.comma();
        text(self.out, value);
    }
    /// A whole number as the next element.
    pub fn number(&mut self, value: impl itoa::Integer) {
        self.comma();
        number(self.out, value);
    }

    fn comma(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }
}

/// Appends a whole object.
pub fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object::begin(out);
    fill(&mut object);
    object.end();
}

/// Appends a whole number.
pub fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a string in quotes, with the escapes that RFC 8259 section 7 demands.
pub fn text(out: &mut Vec<u8>, value: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..0x20 => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
