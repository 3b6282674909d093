//! # Scripts
//!
//! Reads the scenario language: a command, optional lines of input, `----`, and
//! the output that is expected up to a blank line. A doubled `----` opens and
//! closes an output that has blank lines itself.
//!
//! - Owns: nothing.
//! - Source: the file format of cockroachdb's `datadriven`.

use std::fmt::Write as _;
use std::ops::Range;

/// A file of directives.
#[derive(Clone, Debug)]
pub struct Script {
    /// What to run, in order.
    pub directives: Vec<Directive>,
    lines: Vec<String>,
}

/// A command and the output that it must have.
#[derive(Clone, Debug)]
pub struct Directive {
    /// The line of the command, counted from 1.
    pub line: usize,
    /// What to run.
    pub command: Command,
    /// What must be printed, without a line feed at the end.
    pub expected: String,
    /// The line of the first expected line, counted from 1.
    pub expected_line: usize,
    /// The lines that hold the expected output, with the doubled `----` if
    /// there is one; counted from 0.
    block: Range<usize>,
}

/// A command with its arguments and input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The first word.
    pub name: String,
    /// The other words.
    pub arguments: Vec<Argument>,
    /// The lines between the command and `----`.
    pub input: String,
}

/// A word, or `key=value`, or `key=(value, value)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The word, or what stands before the equals sign.
    pub key: String,
    /// What stands behind it; empty for a word.
    pub values: Vec<String>,
}

/// A script that cannot be read or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(pub String);

impl ScriptError {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

const SEPARATOR: &str = "----";

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// Names the line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut directives = Vec::new();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            if line.trim().is_empty() || line.starts_with('#') {
                at += 1;
                continue;
            }
            let directive = Self::directive(&lines, at)?;
            at = directive.block.end;
            directives.push(directive);
        }
        Ok(Self { directives, lines })
    }

    fn directive(lines: &[String], start: usize) -> Result<Directive, ScriptError> {
        let separator = lines
            .iter()
            .skip(start)
            .position(|line| line == SEPARATOR)
            .map(|offset| start + offset)
            .ok_or_else(|| {
                ScriptError::new(format!("line {}: no ---- follows the command", start + 1))
            })?;
        let input = lines[start + 1..separator].join("\n");
        let command = Command::parse(&lines[start], &input)
            .map_err(|why| ScriptError::new(format!("line {}: {why}", start + 1)))?;
        let first = separator + 1;
        let doubled = lines.get(first).is_some_and(|line| line == SEPARATOR);
        let (body, block) = if doubled {
            let body_start = first + 1;
            let body_end = lines
                .windows(2)
                .enumerate()
                .skip(body_start)
                .find(|(_, pair)| pair.iter().all(|line| line == SEPARATOR))
                .map(|(at, _)| at)
                .ok_or_else(|| {
                    ScriptError::new(format!("line {first}: the doubled ---- is never closed"))
                })?;
            (body_start..body_end, first..body_end + 2)
        } else {
            let end = lines
                .iter()
                .skip(first)
                .position(String::is_empty)
                .map_or(lines.len(), |offset| first + offset);
            (first..end, first..end)
        };
        Ok(Directive {
            line: start + 1,
            command,
            expected: lines[body.clone()].join("\n"),
            expected_line: body.start + 1,
            block,
        })
    }

    /// The file with `outputs` in place of what each directive expected.
    pub fn with_outputs(&self, outputs: &[String]) -> String {
        let mut text = String::new();
        let mut at = 0;
        for (directive, output) in self.directives.iter().zip(outputs) {
            self.copy(at..directive.block.start, &mut text);
            let has_blank_lines = output.lines().any(str::is_empty);
            let fence = if has_blank_lines {
                format!("{SEPARATOR}\n{SEPARATOR}\n")
            } else {
                String::new()
            };
            let opening = if has_blank_lines { "----\n" } else { "" };
            let _ = write!(text, "{opening}{output}\n{fence}");
            at = directive.block.end;
        }
        self.copy(at..self.lines.len(), &mut text);
        text
    }

    fn copy(&self, range: Range<usize>, text: &mut String) {
        for line in &self.lines[range] {
            text.push_str(line);
            text.push('\n');
        }
    }
}

impl Command {
    /// Reads one line, and the input that goes with it.
    ///
    /// # Errors
    /// The line is empty or a parenthesis is not closed.
    pub fn parse(line: &str, input: &str) -> Result<Self, ScriptError> {
        let mut words = words(line)?.into_iter();
        let name = words
            .next()
            .ok_or_else(|| ScriptError::new("the line has no command"))?;
        Ok(Self {
            name,
            arguments: words.map(|word| Argument::parse(&word)).collect(),
            input: input.to_owned(),
        })
    }

    /// The words that are not `key=value`.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments
            .iter()
            .filter(|argument| argument.values.is_empty())
            .map(|argument| argument.key.as_str())
    }

    /// The word at `place`, counted from 0.
    ///
    /// # Errors
    /// There is none.
    pub fn word(&self, place: usize) -> Result<&str, ScriptError> {
        self.words().nth(place).ok_or_else(|| {
            ScriptError::new(format!("{} needs a word at place {}", self.name, place + 1))
        })
    }

    /// The word at `place` as a number.
    ///
    /// # Errors
    /// There is none, or it is not a number.
    pub fn number(&self, place: usize) -> Result<u64, ScriptError> {
        number(self.word(place)?)
    }

    /// All values of `key`.
    pub fn values(&self, key: &str) -> &[String] {
        self.arguments
            .iter()
            .find(|argument| argument.key == key)
            .map_or(&[], |argument| &argument.values)
    }

    /// The single value of `key`, if it is given.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values(key).first().map(String::as_str)
    }

    /// The value of `key` as a number.
    ///
    /// # Errors
    /// It is not a number.
    pub fn number_of(&self, key: &str) -> Result<Option<u64>, ScriptError> {
        self.value(key).map(number).transpose()
    }

    /// All values of `key` as numbers.
    ///
    /// # Errors
    /// One is not a number.
    pub fn numbers_of(&self, key: &str) -> Result<Vec<u64>, ScriptError> {
        self.values(key).iter().map(|value| number(value)).collect()
    }

    /// Whether `key` is set to `true`; not given is `false`.
    ///
    /// # Errors
    /// It is neither `true` nor `false`.
    pub fn is_set(&self, key: &str) -> Result<bool, ScriptError> {
        match self.value(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(ScriptError::new(format!("{key} cannot be {other}"))),
        }
    }

    /// Refuses keys that the command does not know.
    ///
    /// # Errors
    /// Names the first that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), ScriptError> {
        let unknown = self
            .arguments
            .iter()
            .find(|argument| !argument.values.is_empty() && !known.contains(&&*argument.key));
        match unknown {
            None => Ok(()),
            Some(argument) => Err(ScriptError::new(format!(
                "{} does not know {}",
                self.name, argument.key
            ))),
        }
    }
}

impl Argument {
    fn parse(word: &str) -> Self {
        let Some((key, value)) = word.split_once('=') else {
            return Self {
                key: word.to_owned(),
                values: Vec::new(),
            };
        };
        let values = match value
            .strip_prefix('(')
            .and_then(|list| list.strip_suffix(')'))
        {
            Some(list) => list
                .split([',', ' '])
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .collect(),
            None => vec![value.to_owned()],
        };
        Self {
            key: key.to_owned(),
            values,
        }
    }
}

/// Splits at spaces that are not in parentheses.
fn words(line: &str) -> Result<Vec<String>, ScriptError> {
    let mut words = vec![String::new()];
    let mut depth = 0_usize;
    for c in line.chars() {
        match c {
            ' ' if depth == 0 => words.push(String::new()),
            _ => {
                match c {
                    '(' => depth += 1,
                    ')' => {
                        depth = depth
                            .checked_sub(1)
                            .ok_or_else(|| ScriptError::new("a ) closes nothing"))?;
                    }
                    _ => {}
                }
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    if depth > 0 {
        return Err(ScriptError::new("a ( is never closed"));
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

pub(crate) fn number(text: &str) -> Result<u64, ScriptError> {
    text.parse()
        .map_err(|_| ScriptError::new(format!("{text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_may_have_spaces_and_words_come_in_order() {
        let command = Command::parse("committed cfg=(1, 2 3) 7 x=y 8", "").unwrap();
        assert_eq!(command.name, "committed");
        assert_eq!(command.values("cfg"), ["1", "2", "3"]);
        assert_eq!(command.value("x"), Some("y"));
        assert_eq!(command.words().collect::<Vec<_>>(), ["7", "8"]);
    }

    #[test]
    fn a_doubled_separator_holds_blank_lines() {
        let text = "a 1\nin put\n----\n----\nx\n\ny\n----\n----\n\n# c\nb\n----\nok\n";
        let script = Script::parse(text).unwrap();
        let [first, second] = &script.directives[..] else {
            panic!("two directives: {script:?}")
        };
        assert_eq!(first.expected, "x\n\ny");
        assert_eq!((first.line, first.expected_line), (1, 5));
        assert_eq!(first.command.input, "in put");
        assert_eq!((second.line, second.expected_line), (12, 14));
    }

    #[test]
    fn rewriting_with_the_expected_output_changes_nothing() {
        let text = "# p\n\na 1\n----\n----\nx\n\ny\n----\n----\n\nb\n----\nok\n\n# end\n";
        let script = Script::parse(text).unwrap();
        let outputs: Vec<String> = script
            .directives
            .iter()
            .map(|directive| directive.expected.clone())
            .collect();
        assert_eq!(script.with_outputs(&outputs), text);
    }

    #[test]
    fn a_command_without_separator_is_refused_with_its_line() {
        let error = Script::parse("\nboom 1\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2:"), "{error}");
    }
}
