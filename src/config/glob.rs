//! Patterns of paths: `*`, `?`, `**`, `[…]`, `{…,…}` and `\`.
//!
//! A pattern becomes a short program, and all ways through it are followed at once with each character of a path. So the
//! time is bounded by the lengths of pattern and path: names come from tasks, and no name can make a match take long.

use std::mem;

/// How deep braces may be nested.
const DEEPEST: usize = 50;

/// A character of a path; `None` for a byte that is no part of UTF-8.
pub type Letter = Option<char>;

/// The letters of a path.
pub fn letters(path: &std::path::Path) -> Vec<Letter> {
    let mut letters = Vec::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        letters.extend(chunk.valid().chars().map(Some));
        letters.extend(chunk.invalid().iter().map(|_| None));
    }
    if cfg!(windows) {
        letters.iter_mut().filter(|letter| **letter == Some('\\')).for_each(|letter| *letter = Some('/'));
    }
    letters
}

/// The bytes of a path as letters, for a pattern of [`as_bytes`].
pub fn byte_letters(path: &std::path::Path) -> Vec<Letter> {
    let letter = |&byte: &u8| Some(if cfg!(windows) && byte == b'\\' { '/' } else { char::from(byte) });
    path.as_os_str().as_encoded_bytes().iter().map(letter).collect()
}

/// A pattern that matches bytes as the given one matches letters.
pub fn as_bytes(pattern: &str) -> String {
    pattern.bytes().map(char::from).collect()
}

/// A pattern of whole paths.
#[derive(Debug, Clone, PartialEq)]
pub struct Glob {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// One letter of these.
    One(Letters),
    /// Goes on at the next step and at this one.
    Split(usize),
    Jump(usize),
}

#[derive(Debug, Clone, PartialEq)]
struct Letters {
    ranges: Vec<(char, char)>,
    /// All but those of the ranges.
    is_negated: bool,
}

impl Letters {
    fn of(letter: char) -> Self {
        Self { ranges: vec![(letter, letter)], is_negated: false }
    }

    fn any() -> Self {
        Self { ranges: Vec::new(), is_negated: true }
    }

    fn any_but_slash() -> Self {
        Self { ranges: vec![('/', '/')], is_negated: true }
    }

    fn have(&self, letter: Letter) -> bool {
        letter.is_some_and(|letter| self.ranges.iter().any(|&(first, last)| (first..=last).contains(&letter)))
            != self.is_negated
    }
}

enum Token {
    One(Letters),
    /// `*`
    Star,
    /// `**/` at the begin: nothing, or any folders.
    AnyFolders,
    /// `/**/`
    SlashAnyFolders,
    /// `/**` at the end: all below a folder.
    AllBelow,
    /// `{…,…}`
    Either(Vec<Vec<Token>>),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let tokens =
            Reader { letters: pattern.chars().collect(), at: 0, branches: vec![Vec::new()], groups: Vec::new() };
        let mut glob = Self { steps: Vec::new() };
        match tokens.read()?.as_slice() {
            [Token::AnyFolders] => glob.repeat(Letters::any()),
            tokens => glob.add_all(tokens),
        }
        Ok(glob)
    }

    /// Whether the pattern matches a path from its begin to its end.
    pub fn matches(&self, path: &[Letter]) -> bool {
        let (mut now, mut next) = (Places::new(self.steps.len()), Places::new(self.steps.len()));
        self.follow(0, &mut now);
        for &letter in path {
            next.clear();
            for &place in &now.list {
                if matches!(self.steps.get(place), Some(Step::One(letters)) if letters.have(letter)) {
                    self.follow(place + 1, &mut next);
                }
            }
            mem::swap(&mut now, &mut next);
        }
        now.are_at[self.steps.len()]
    }

    /// Adds a place, and all that are reached from it without a letter.
    fn follow(&self, place: usize, places: &mut Places) {
        let mut open = vec![place];
        while let Some(place) = open.pop() {
            if !places.add(place) {
                continue;
            }
            match self.steps.get(place) {
                Some(Step::Split(other)) => open.extend([*other, place + 1]),
                Some(Step::Jump(other)) => open.push(*other),
                Some(Step::One(_)) | None => {}
            }
        }
    }

    fn add_all(&mut self, tokens: &[Token]) {
        for token in tokens {
            match token {
                Token::One(letters) => self.steps.push(Step::One(letters.clone())),
                Token::Star => self.repeat(Letters::any_but_slash()),
                Token::AnyFolders => self.any_folders(),
                Token::SlashAnyFolders => {
                    self.steps.push(Step::One(Letters::of('/')));
                    self.any_folders();
                }
                Token::AllBelow => {
                    self.steps.push(Step::One(Letters::of('/')));
                    self.repeat(Letters::any());
                }
                Token::Either(branches) => self.either(branches),
            }
        }
    }

    /// Any number of such letters.
    fn repeat(&mut self, letters: Letters) {
        let begin = self.steps.len();
        self.steps.extend([Step::Split(begin + 3), Step::One(letters), Step::Jump(begin)]);
    }

    /// Nothing, or anything that ends with a slash.
    fn any_folders(&mut self) {
        self.steps.push(Step::Split(self.steps.len() + 5));
        self.repeat(Letters::any());
        self.steps.push(Step::One(Letters::of('/')));
    }

    /// One of the branches. An empty one doesn't count.
    fn either(&mut self, branches: &[Vec<Token>]) {
        let mut ends = Vec::new();
        let mut last = None;
        for branch in branches {
            let begin = self.steps.len();
            self.steps.push(Step::Split(begin));
            self.add_all(branch);
            if self.steps.len() == begin + 1 {
                self.steps.truncate(begin);
                continue;
            }
            ends.push(self.steps.len());
            self.steps.push(Step::Jump(begin));
            self.steps[begin] = Step::Split(self.steps.len());
            last = Some(begin);
        }
        // The last branch has no other one beside it.
        if let Some(begin) = last {
            self.steps[begin] = Step::Jump(begin + 1);
        }
        let end = self.steps.len();
        for place in ends {
            self.steps[place] = Step::Jump(end);
        }
    }
}

/// Places in a program, each once.
struct Places {
    list: Vec<usize>,
    are_at: Vec<bool>,
}

impl Places {
    /// The last place is the end of the program.
    fn new(steps: usize) -> Self {
        Self { list: Vec::new(), are_at: vec![false; steps + 1] }
    }

    fn add(&mut self, place: usize) -> bool {
        let is_new = !mem::replace(&mut self.are_at[place], true);
        if is_new {
            self.list.push(place);
        }
        is_new
    }

    fn clear(&mut self) {
        for place in self.list.drain(..) {
            self.are_at[place] = false;
        }
    }
}

struct Reader {
    letters: Vec<char>,
    at: usize,
    /// What has been read of the whole pattern, and of the branches of the open braces. The last one is being read.
    branches: Vec<Vec<Token>>,
    /// Where the branches of each open brace begin.
    groups: Vec<usize>,
}

impl Reader {
    fn read(mut self) -> Result<Vec<Token>, String> {
        while let Some(letter) = self.next() {
            match letter {
                '?' => self.push(Token::One(Letters::any_but_slash())),
                '*' => self.read_star(),
                '[' => self.read_class()?,
                '{' if self.groups.len() == DEEPEST => return Err("too many `{` within each other".to_owned()),
                '{' => {
                    self.groups.push(self.branches.len());
                    self.branches.push(Vec::new());
                }
                '}' => {
                    let begin = self.groups.pop().ok_or("a `}` without its `{`; a `}` of the name is written `\\}`")?;
                    let branches = self.branches.split_off(begin);
                    self.push(Token::Either(branches));
                }
                ',' if !self.groups.is_empty() => self.branches.push(Vec::new()),
                '\\' => {
                    let letter = self.next().ok_or("a `\\` at its end")?;
                    self.push(Token::One(Letters::of(letter)));
                }
                letter => self.push(Token::One(Letters::of(letter))),
            }
        }
        if !self.groups.is_empty() {
            return Err("a `{` without its `}`; a `{` of the name is written `\\{`".to_owned());
        }
        Ok(self.branches.pop().unwrap_or_default())
    }

    fn next(&mut self) -> Option<char> {
        let letter = self.peek();
        self.at += usize::from(letter.is_some());
        letter
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn push(&mut self, token: Token) {
        if let Some(branch) = self.branches.last_mut() {
            branch.push(token);
        }
    }

    /// One star, or two. Two are folders only if they stand alone between slashes.
    fn read_star(&mut self) {
        let before = self.at.checked_sub(2).map(|at| self.letters[at]);
        if self.peek() != Some('*') {
            return self.push(Token::Star);
        }
        self.at += 1;
        let is_in_group = !self.groups.is_empty();
        let is_first = self.branches.last().is_none_or(Vec::is_empty);
        let begins = is_first || before == Some('/') || (is_in_group && matches!(before, Some(',' | '{')));
        let (is_slash, is_end) = match self.peek() {
            Some('/') => (true, false),
            Some(',' | '}') => (false, is_in_group && !is_first),
            Some(_) => (false, false),
            None => (false, true),
        };
        if !begins || !(is_slash || is_end) {
            self.push(Token::Star);
            return self.push(Token::Star);
        }
        self.at += usize::from(is_slash);
        if is_first {
            return self.push(Token::AnyFolders);
        }
        let before = self.branches.last_mut().and_then(Vec::pop);
        self.push(match before {
            Some(token @ (Token::AnyFolders | Token::AllBelow)) => token,
            _ if is_end => Token::AllBelow,
            _ => Token::SlashAnyFolders,
        });
    }

    /// The rest of `[…]`. A `]` or `-` at its begin, and a `-` at its end, mean themselves.
    fn read_class(&mut self) -> Result<(), String> {
        let is_negated = matches!(self.peek(), Some('!' | '^'));
        self.at += usize::from(is_negated);
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut is_range = false;
        loop {
            let letter = self.next().ok_or("a `[` without its `]`; a `[` of the name is written `\\[`")?;
            match (letter, ranges.last_mut()) {
                (']', Some(_)) => break,
                (last, Some(range)) if mem::take(&mut is_range) => {
                    if last < range.0 {
                        return Err(format!("`{}-{last}`, which is no range", range.0));
                    }
                    range.1 = last;
                }
                ('-', Some(_)) => is_range = true,
                (letter, _) => ranges.push((letter, letter)),
            }
        }
        if is_range {
            ranges.push(('-', '-'));
        }
        self.push(Token::One(Letters { ranges, is_negated }));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
