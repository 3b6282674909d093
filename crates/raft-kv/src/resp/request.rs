//! # Requests
//!
//! Finds requests in what a client has sent so far. Owns nothing but how far it
//! has read into the request that is not complete yet, so that a request that
//! comes in a thousand pieces is read once, and not a thousand times.
//!
//! Reading is total: every input is a request, the start of one, or a
//! [`ProtocolError`]. Nothing is allocated for a length that was only announced.

use std::ops::Range;

use smallvec::SmallVec;

use super::number::parse_integer;

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// The longest argument, in bytes.
    pub argument_bytes: usize,
    /// All of one request, in bytes.
    pub request_bytes: usize,
    /// The most arguments of one request, its name included.
    pub arguments: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            argument_bytes: 1 << 20,
            request_bytes: 2 << 20,
            arguments: 1 << 16,
        }
    }
}

/// The longest line of an inline request, and of the length in front of an
/// argument, in bytes.
const LINE_BYTES: usize = 64 << 10;

/// What a client sent is not a request. The connection cannot go on: where the
/// next request begins is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The number of arguments is not a number.
    #[error("invalid multibulk length")]
    ArgumentCount,
    /// There are more arguments than are allowed.
    #[error("too many arguments: {announced} announced, {most} allowed")]
    TooManyArguments {
        /// How many the client announced.
        announced: i64,
        /// How many it may send.
        most: usize,
    },
    /// The length of an argument is not a number.
    #[error("invalid bulk length")]
    ArgumentLength,
    /// An argument is longer than is allowed.
    #[error("argument too large: {announced} bytes announced, {most} allowed")]
    ArgumentTooLarge {
        /// The length that the client announced, in bytes.
        announced: i64,
        /// The longest that it may send, in bytes.
        most: usize,
    },
    /// The request as a whole is longer than is allowed.
    #[error("request too large: {most} bytes allowed")]
    RequestTooLarge {
        /// The longest that a client may send, in bytes.
        most: usize,
    },
    /// An argument does not begin with its length.
    #[error("expected '$', got '{}'", char::from(*.0).escape_default())]
    ExpectedArgument(u8),
    /// An argument is not followed by the end of its line.
    #[error("an argument is longer than its announced length")]
    Unterminated,
    /// A line has no end.
    #[error("too big inline request")]
    LineTooLong,
    /// A quote of an inline request is not closed, or not followed by a blank.
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// One complete request, borrowed from what the client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of the command and its arguments. Empty for an empty line,
    /// which asks for nothing and gets no answer.
    pub arguments: SmallVec<[&'a [u8]; 8]>,
    /// How many bytes of the input it takes.
    pub len: usize,
}

/// Finds the requests in a stream of bytes.
#[derive(Clone, Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    /// How much of the input is understood already.
    position: usize,
    /// Where in the input the arguments are that are complete.
    arguments: SmallVec<[Range<usize>; 8]>,
    /// How many arguments are to come; `None` before their number is known.
    missing: Option<usize>,
}

impl RequestParser {
    /// A parser before the first byte of a request.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            position: 0,
            arguments: SmallVec::new(),
            missing: None,
        }
    }

    /// The first request of `input`, or `None` if it is not complete. Until it
    /// is, `input` must begin with the same bytes at every call.
    ///
    /// # Errors
    /// The input is not a request, or larger than allowed.
    pub fn parse<'a>(&mut self, input: &'a [u8]) -> Result<Option<Request<'a>>, ProtocolError> {
        let request = match (self.missing, input.first()) {
            (None, None) => None,
            (None, Some(b'*')) | (Some(_), _) => self.parse_array(input)?,
            (None, Some(_)) => parse_inline(input)?,
        };
        // However the request was cut into pieces, it is as long as it is.
        let len = request.as_ref().map_or(input.len(), |request| request.len);
        if len > self.limits.request_bytes {
            return Err(self.too_large());
        }
        Ok(request)
    }

    fn parse_array<'a>(&mut self, input: &'a [u8]) -> Result<Option<Request<'a>>, ProtocolError> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => match self.argument_count(input)? {
                Some(count) => count,
                None => return Ok(None),
            },
        };
        while missing > 0 {
            self.missing = Some(missing);
            let Some(argument) = self.argument(input)? else {
                return Ok(None);
            };
            self.position = argument.end + 2;
            self.arguments.push(argument);
            missing -= 1;
        }
        let arguments = self.arguments.drain(..).map(|at| &input[at]).collect();
        let len = std::mem::take(&mut self.position);
        self.missing = None;
        Ok(Some(Request { arguments, len }))
    }

    fn argument_count(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let Some((line, next)) = line(input, 1)? else {
            return Ok(None);
        };
        let announced = parse_integer(line).ok_or(ProtocolError::ArgumentCount)?;
        // A negative number is an empty request, as it is for Redis.
        let count = usize::try_from(announced.max(0)).unwrap_or(usize::MAX);
        if count > self.limits.arguments {
            return Err(ProtocolError::TooManyArguments {
                announced,
                most: self.limits.arguments,
            });
        }
        self.position = next;
        Ok(Some(count))
    }

    /// Where the next argument is, or `None` if it is not complete.
    fn argument(&self, input: &[u8]) -> Result<Option<Range<usize>>, ProtocolError> {
        match input.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedArgument(other)),
        }
        let Some((line, start)) = line(input, self.position + 1)? else {
            return Ok(None);
        };
        let announced = parse_integer(line).ok_or(ProtocolError::ArgumentLength)?;
        let length = usize::try_from(announced).map_err(|_| ProtocolError::ArgumentLength)?;
        if length > self.limits.argument_bytes {
            return Err(ProtocolError::ArgumentTooLarge {
                announced,
                most: self.limits.argument_bytes,
            });
        }
        let end = start + length;
        if end + 2 > self.limits.request_bytes {
            return Err(self.too_large());
        }
        match input.get(end..end + 2) {
            None => Ok(None),
            Some(b"\r\n") => Ok(Some(start..end)),
            Some(_) => Err(ProtocolError::Unterminated),
        }
    }

    fn too_large(&self) -> ProtocolError {
        ProtocolError::RequestTooLarge {
            most: self.limits.request_bytes,
        }
    }
}

/// The line that begins at `start`, without its end, and where the next begins.
fn line(input: &[u8], start: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = input.get(start..).unwrap_or(&[]);
    let searched = &rest[..rest.len().min(LINE_BYTES)];
    match searched.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = &searched[..end];
            Ok(Some((
                line.strip_suffix(b"\r").unwrap_or(line),
                start + end + 1,
            )))
        }
        None if rest.len() >= LINE_BYTES => Err(ProtocolError::LineTooLong),
        None => Ok(None),
    }
}

/// A request as a person types it: words between blanks, in quotes where they
/// have blanks themselves. A backslash has no meaning.
fn parse_inline(input: &[u8]) -> Result<Option<Request<'_>>, ProtocolError> {
    let Some((mut rest, len)) = line(input, 0)? else {
        return Ok(None);
    };
    let mut arguments = SmallVec::new();
    loop {
        rest = rest.trim_ascii_start();
        let Some(&first) = rest.first() else {
            return Ok(Some(Request { arguments, len }));
        };
        if first == b'"' || first == b'\'' {
            let quoted = &rest[1..];
            let end = quoted
                .iter()
                .position(|&byte| byte == first)
                .ok_or(ProtocolError::UnbalancedQuotes)?;
            arguments.push(&quoted[..end]);
            rest = &quoted[end + 1..];
            if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                return Err(ProtocolError::UnbalancedQuotes);
            }
        } else {
            let end = rest
                .iter()
                .position(u8::is_ascii_whitespace)
                .unwrap_or(rest.len());
            arguments.push(&rest[..end]);
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::put_request;
    use bytes::BytesMut;
    use proptest::prelude::*;

    const SMALL: RequestLimits = RequestLimits {
        argument_bytes: 100,
        request_bytes: 300,
        arguments: 8,
    };

    fn parse(input: &[u8]) -> Result<Option<Vec<Vec<u8>>>, ProtocolError> {
        let request = RequestParser::new(SMALL).parse(input)?;
        Ok(request.map(|request| request.arguments.iter().map(|a| a.to_vec()).collect()))
    }

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn arrays_and_lines_are_requests() {
        let request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        assert_eq!(parse(request), Ok(Some(words(&["GET", "k"]))));
        assert_eq!(parse(b"GET k\r\n"), Ok(Some(words(&["GET", "k"]))));
        assert_eq!(
            parse(b"  SET 'a b' \"\"\n"),
            Ok(Some(words(&["SET", "a b", ""])))
        );
    }

    #[test]
    fn empty_requests_ask_for_nothing() {
        for empty in [&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b"   \n"] {
            assert_eq!(parse(empty), Ok(Some(vec![])), "{empty:?}");
        }
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        use ProtocolError as E;
        let cases: &[(&[u8], ProtocolError)] = &[
            (b"*x\r\n", E::ArgumentCount),
            (b"*1\r\n+GET\r\n", E::ExpectedArgument(b'+')),
            (b"*1\r\n$-1\r\n", E::ArgumentLength),
            (b"*1\r\n$x\r\n", E::ArgumentLength),
            (b"*1\r\n$1\r\nabc\r\n", E::Unterminated),
            (b"GET 'k\r\n", E::UnbalancedQuotes),
            (b"GET 'k'k\r\n", E::UnbalancedQuotes),
        ];
        for (input, error) in cases {
            assert_eq!(parse(input), Err(error.clone()));
        }
    }

    #[test]
    fn sizes_are_refused_when_they_are_announced() {
        let refused = parse(b"*1\r\n$536870913\r\n");
        let announced = 536_870_913;
        assert_eq!(
            refused,
            Err(ProtocolError::ArgumentTooLarge {
                announced,
                most: 100
            })
        );
        assert!(matches!(
            parse(b"*9\r\n"),
            Err(ProtocolError::TooManyArguments { .. })
        ));
        let four = [
            &b"*4\r\n"[..],
            &[b"$100\r\n", &[b'x'; 100][..], b"\r\n"].concat().repeat(3),
        ];
        assert!(matches!(
            parse(&four.concat()),
            Err(ProtocolError::RequestTooLarge { most: 300 })
        ));
        assert_eq!(
            parse(&vec![b'x'; LINE_BYTES]),
            Err(ProtocolError::LineTooLong)
        );
    }

    #[test]
    fn a_request_is_too_large_however_it_is_cut() {
        // One byte more than is allowed, as a line and as an array.
        let line = [&b"ECHO "[..], &[b'x'; 294], b"\r\n"].concat();
        let array = [
            &b"*4\r\n"[..],
            &[b"$90\r\n", &[b'x'; 90][..], b"\r\n"].concat().repeat(2),
            &[b"$86\r\n", &[b'x'; 86][..], b"\r\n"].concat(),
            b"$4\r\nxxxx\r\n",
        ]
        .concat();
        for input in [line, array] {
            assert_eq!(input.len(), SMALL.request_bytes + 1);
            let too_large = Err(ProtocolError::RequestTooLarge { most: 300 });
            assert_eq!(parse(&input), too_large);
            let mut parser = RequestParser::new(SMALL);
            let first = (1..=input.len()).find_map(|end| match parser.parse(&input[..end]) {
                Ok(None) => None,
                Ok(Some(_)) => panic!("it was taken in pieces"),
                Err(error) => Some(error),
            });
            assert_eq!(first, Some(ProtocolError::RequestTooLarge { most: 300 }));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(input: Vec<u8>) {
            let _ = parse(&input);
        }

        #[test]
        fn bytes_that_look_like_requests_are_read_or_refused(
            input in "(\\*[0-9x-]{1,3}\r\n|\\$[0-9x-]{1,3}\r\n|[a-z' \"]{0,4}|\r\n){0,12}",
        ) {
            let _ = parse(input.as_bytes());
        }

        #[test]
        fn a_request_is_found_however_it_is_cut(
            arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..8),
            cuts in prop::collection::vec(1_usize..9, 0..40),
        ) {
            let mut input = BytesMut::new();
            put_request(&mut input, arguments.iter().map(Vec::as_slice));
            let mut parser = RequestParser::new(SMALL);
            let mut end = 0;
            for cut in cuts {
                end += cut;
                if end >= input.len() {
                    break;
                }
                prop_assert_eq!(parser.parse(&input[..end]), Ok(None));
            }
            input.extend_from_slice(b"the next");
            let request = parser.parse(&input).unwrap().unwrap();
            prop_assert_eq!(request.arguments.to_vec(), arguments);
            prop_assert_eq!(&input[request.len..], b"the next");
        }
    }
}
