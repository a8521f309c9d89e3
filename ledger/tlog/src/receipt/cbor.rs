//! The part of CBOR (RFC 8949) that receipts are made of: definite lengths, shortest integers.

/// Deepest nesting that is passed over.
const MAX_DEPTH: usize = 8;

const UINT: u8 = 0;
const NINT: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const NULL: u8 = 0xf6;

/// Writes the deterministic form.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        let bytes = value.to_be_bytes();
        match value {
            0..24 => self.bytes.push(major | bytes[7]),
            24..0x100 => self.bytes.extend([major | 24, bytes[7]]),
            0x100..0x1_0000 => {
                self.bytes.push(major | 25);
                self.bytes.extend(&bytes[6..]);
            }
            0x1_0000..0x1_0000_0000 => {
                self.bytes.push(major | 26);
                self.bytes.extend(&bytes[4..]);
            }
            _ => {
                self.bytes.push(major | 27);
                self.bytes.extend(bytes);
            }
        }
        self
    }

    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    pub fn int(&mut self, value: i64) -> &mut Self {
        if value < 0 { self.head(NINT, !value.cast_unsigned()) } else { self.head(UINT, value.cast_unsigned()) }
    }

    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).bytes.extend(value);
        self
    }

    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).bytes.extend(value.as_bytes());
        self
    }

    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }

    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }

    pub fn tag(&mut self, number: u64) -> &mut Self {
        self.head(TAG, number)
    }

    pub fn null(&mut self) -> &mut Self {
        self.bytes.push(NULL);
        self
    }
}

/// Reads one item after another; `None` is not what was asked for, and then nothing was read.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Major type and argument; only the shortest form.
    fn peek(&self) -> Option<(u8, u64, &'a [u8])> {
        let (first, rest) = self.rest.split_first()?;
        let (major, info) = (first >> 5, first & 31);
        let width = match info {
            0..24 => return Some((major, info.into(), rest)),
            24..28 => 1_usize << (info - 24),
            _ => return None,
        };
        let (argument, rest) = rest.split_at_checked(width)?;
        let value = argument.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let least = if width == 1 { 24 } else { 1_u64 << (4 * width) };
        (least <= value).then_some((major, value, rest))
    }

    fn head(&mut self, major: u8) -> Option<u64> {
        let (found, value, rest) = self.peek()?;
        if found != major {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    pub fn uint(&mut self) -> Option<u64> {
        self.head(UINT)
    }

    pub fn int(&mut self) -> Option<i64> {
        let (major, value, rest) = self.peek()?;
        let value = i64::try_from(value).ok()?;
        let value = match major {
            UINT => value,
            NINT => !value,
            _ => return None,
        };
        self.rest = rest;
        Some(value)
    }

    fn string(&mut self, major: u8) -> Option<&'a [u8]> {
        let (found, length, rest) = self.peek()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if found != major {
            return None;
        }
        self.rest = rest;
        Some(value)
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        self.string(BYTES)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string(TEXT)?).ok()
    }

    pub fn array(&mut self) -> Option<u64> {
        self.head(ARRAY)
    }

    /// How many pairs follow.
    pub fn map(&mut self) -> Option<u64> {
        self.head(MAP)
    }

    pub fn tag(&mut self) -> Option<u64> {
        self.head(TAG)
    }

    pub fn null(&mut self) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == NULL).then_some(())
    }

    /// Passes over one item.
    pub fn skip(&mut self) -> Option<()> {
        self.skip_below(MAX_DEPTH)
    }

    fn skip_below(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let (major, value, rest) = self.peek()?;
        match major {
            BYTES | TEXT => self.string(major).map(drop),
            UINT | NINT | SIMPLE => {
                self.rest = rest;
                Some(())
            }
            _ => {
                self.rest = rest;
                let items = match major {
                    MAP => value.checked_mul(2)?,
                    ARRAY => value,
                    _ => 1,
                };
                // No item is shorter than a byte.
                (items <= rest.len() as u64).then_some(())?;
                (0..items).try_for_each(|_| self.skip_below(depth))
            }
        }
    }
}
