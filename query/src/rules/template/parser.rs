//! Tokens to a tree.

use super::{
    TemplateError,
    functions::is_function,
    lexer::{Piece, Token, pieces},
    value::Value,
};

/// Of blocks and parentheses within one another.
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    Action {
        line: usize,
        pipe: Pipe,
    },
    If {
        line: usize,
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// Sets the dot.
    With {
        line: usize,
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        line: usize,
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// `$x := a | b c`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `=` rather than `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Term>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Term {
    pub(super) base: Base,
    pub(super) members: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Base {
    Dot,
    /// Empty for `$`, the data.
    Variable(String),
    Function(String),
    Literal(Value),
    Pipe(Box<Pipe>),
}

pub(super) fn parse(text: &str, variables: &[&str]) -> Result<Vec<Node>, TemplateError> {
    let variables = variables.iter().map(|name| (*name).to_string()).collect();
    let mut parser = Parser { pieces: pieces(text)?.into_iter(), variables, loops: 0, depth: 0, line: 1 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Tail::OfText => Ok(nodes),
        Tail::Else(_) => Err(parser.error("unexpected {{else}}")),
        Tail::Closed => Err(parser.error("unexpected {{end}}")),
    }
}

/// What a list of nodes ended with; `Else` has what stands behind it, such as `if …`.
enum Tail {
    OfText,
    Else(Vec<Token>),
    Closed,
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    /// Those that are defined here, innermost last.
    variables: Vec<String>,
    loops: usize,
    depth: usize,
    line: usize,
}

impl Parser {
    fn error(&self, message: impl Into<String>) -> TemplateError {
        TemplateError { line: self.line, message: message.into() }
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Tail), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { line, tokens } => (line, tokens),
            };
            self.line = line;
            let mut tokens = Tokens::new(tokens);
            let Some(Token::Word(word)) = tokens.peek().cloned() else {
                nodes.push(Node::Action { line, pipe: self.whole_pipe(tokens)? });
                continue;
            };
            match word.as_str() {
                "end" => return Ok((nodes, Tail::Closed)),
                "else" => {
                    tokens.next();
                    return Ok((nodes, Tail::Else(tokens.rest())));
                }
                "if" | "with" | "range" => {
                    tokens.next();
                    nodes.push(self.block(&word, line, tokens)?);
                }
                "break" | "continue" if self.loops == 0 => {
                    return Err(self.error(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => {
                    return Err(self.error(format!("{{{{{word}}}}} is not supported in rules")));
                }
                _ => nodes.push(Node::Action { line, pipe: self.whole_pipe(tokens)? }),
            }
        }
        Ok((nodes, Tail::OfText))
    }

    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Parser) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} deep")));
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn block(&mut self, kind: &str, line: usize, tokens: Tokens) -> Result<Node, TemplateError> {
        self.nested(|parser| {
            let outer = parser.variables.len();
            let pipe = parser.whole_pipe(tokens)?;
            let is_range = kind == "range";
            let (most, what) = if is_range { (2, "range") } else { (1, kind) };
            if pipe.variables.len() > most {
                return Err(parser.error(format!("too many declarations in {what}")));
            }
            parser.loops += usize::from(is_range);
            let (body, end) = parser.nodes()?;
            parser.loops -= usize::from(is_range);
            let otherwise = parser.otherwise(kind, line, end)?;
            parser.variables.truncate(outer);
            Ok(match kind {
                "if" => Node::If { line, pipe, then: body, otherwise },
                "with" => Node::With { line, pipe, then: body, otherwise },
                _ => Node::Range { line, pipe, body, otherwise },
            })
        })
    }

    /// What follows the first list of a block: nothing, `{{else}} …`, or `{{else if …}} …`.
    fn otherwise(&mut self, kind: &str, line: usize, end: Tail) -> Result<Vec<Node>, TemplateError> {
        match end {
            Tail::Closed => Ok(Vec::new()),
            Tail::OfText => {
                Err(TemplateError { line, message: format!("{{{{{kind}}}}} has no {{{{end}}}}") })
            }
            Tail::Else(tokens) => {
                let mut tokens = Tokens::new(tokens);
                match tokens.next() {
                    None => {
                        let (nodes, end) = self.nodes()?;
                        match end {
                            Tail::Closed => Ok(nodes),
                            _ => Err(self.error("expected {{end}} after {{else}}")),
                        }
                    }
                    // One `end` closes the whole chain.
                    Some(Token::Word(word)) if word == kind && kind != "range" => {
                        Ok(vec![self.block(kind, self.line, tokens)?])
                    }
                    Some(_) => Err(self.error("unexpected words behind {{else}}")),
                }
            }
        }
    }

    fn whole_pipe(&mut self, mut tokens: Tokens) -> Result<Pipe, TemplateError> {
        let pipe = self.pipe(&mut tokens)?;
        match tokens.next() {
            None => Ok(pipe),
            Some(_) => Err(self.error("unexpected \")\"")),
        }
    }

    /// Up to a `)` or the end.
    fn pipe(&mut self, tokens: &mut Tokens) -> Result<Pipe, TemplateError> {
        let (variables, assigns) = self.declarations(tokens)?;
        let mut commands = vec![Vec::new()];
        loop {
            match tokens.peek() {
                None | Some(Token::Symbol(")")) => break,
                Some(Token::Symbol("|")) => {
                    tokens.next();
                    commands.push(Vec::new());
                }
                Some(_) => {
                    let term = self.term(tokens)?;
                    if let Some(command) = commands.last_mut() {
                        command.push(term);
                    }
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(self.error("missing value for command"));
        }
        let literal = |command: &Vec<Term>| {
            command.first().is_some_and(|term| !matches!(term.base, Base::Function(_))) && command.len() > 1
        };
        if commands.iter().any(literal) {
            return Err(self.error("can't give argument to non-function"));
        }
        if !assigns {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { variables, assigns, commands })
    }

    /// `$a, $b :=`
    fn declarations(&mut self, tokens: &mut Tokens) -> Result<(Vec<String>, bool), TemplateError> {
        let start = tokens.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = tokens.peek().cloned() {
            tokens.next();
            names.push(name);
            match tokens.peek() {
                Some(Token::Symbol(",")) => _ = tokens.next(),
                Some(Token::Symbol(":=")) => {
                    tokens.next();
                    return Ok((names, false));
                }
                Some(Token::Symbol("=")) => {
                    tokens.next();
                    if let Some(unknown) = names.iter().find(|name| !self.variables.contains(name)) {
                        return Err(self.error(format!("undefined variable \"${unknown}\"")));
                    }
                    return Ok((names, true));
                }
                _ => break,
            }
        }
        tokens.at = start;
        Ok((Vec::new(), false))
    }

    fn term(&mut self, tokens: &mut Tokens) -> Result<Term, TemplateError> {
        let mut members = Vec::new();
        let base = match tokens.next() {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name)) => {
                members.push(name);
                Base::Dot
            }
            Some(Token::Variable(name)) => {
                if !name.is_empty() && !self.variables.contains(&name) {
                    return Err(self.error(format!("undefined variable \"${name}\"")));
                }
                Base::Variable(name)
            }
            Some(Token::Literal(value)) => Base::Literal(value),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Nil),
                name if is_function(name) => Base::Function(word),
                _ => return Err(self.error(format!("function {word:?} not defined"))),
            },
            Some(Token::Symbol("(")) => {
                let pipe = self.nested(|parser| parser.pipe(tokens))?;
                if tokens.next() != Some(Token::Symbol(")")) {
                    return Err(self.error("unclosed left parenthesis"));
                }
                Base::Pipe(Box::new(pipe))
            }
            Some(Token::Symbol(symbol)) => {
                return Err(self.error(format!("unexpected {symbol:?} in operand")));
            }
            Some(Token::Blank) | None => return Err(self.error("missing value for command")),
        };
        while let Some(name) = tokens.adjacent_field() {
            members.push(name);
        }
        Ok(Term { base, members })
    }
}

struct Tokens {
    tokens: Vec<Token>,
    at: usize,
}

impl Tokens {
    fn new(tokens: Vec<Token>) -> Tokens {
        Tokens { tokens, at: 0 }
    }

    fn skip_blanks(&mut self) {
        while self.tokens.get(self.at) == Some(&Token::Blank) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<&Token> {
        self.skip_blanks();
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    /// `.name` without a blank in front.
    fn adjacent_field(&mut self) -> Option<String> {
        let Some(Token::Field(name)) = self.tokens.get(self.at).cloned() else { return None };
        self.at += 1;
        Some(name)
    }

    fn rest(self) -> Vec<Token> {
        self.tokens.into_iter().skip(self.at).collect()
    }
}
