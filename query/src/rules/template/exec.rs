//! Expands the tree.

use super::{
    Surroundings, TemplateError, functions,
    parser::{Base, Node, Pipe, Term},
    print,
    value::Value,
};

/// Nodes that one expansion may go through, loops counted each time.
const MAX_STEPS: usize = 100_000;
/// Of one expansion's text.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

pub(super) fn run(
    nodes: &[Node],
    data: &Value,
    variables: Vec<(String, Value)>,
    surroundings: &dyn Surroundings,
) -> Result<String, TemplateError> {
    let mut execution = Execution { data, variables, surroundings, output: String::new(), steps: 0, line: 1 };
    match execution.nodes(nodes, data) {
        Ok(_) => Ok(execution.output),
        Err(message) => Err(TemplateError { line: execution.line, message }),
    }
}

/// What a list of nodes ended with.
#[derive(PartialEq)]
enum Flow {
    Next,
    Break,
    Continue,
}

struct Execution<'e> {
    data: &'e Value,
    /// Innermost last.
    variables: Vec<(String, Value)>,
    surroundings: &'e dyn Surroundings,
    output: String,
    steps: usize,
    line: usize,
}

impl Execution<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(format!("the template takes more than {MAX_STEPS} steps"));
            }
            match self.node(node, dot)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        if self.output.len() + text.len() > MAX_OUTPUT_BYTES {
            return Err(format!("the template gives more than {MAX_OUTPUT_BYTES} bytes"));
        }
        self.output.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action { line, pipe } => {
                self.line = *line;
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.write(&print::plain(&value))?;
                }
            }
            Node::If { line, pipe, then, otherwise } => {
                self.line = *line;
                let outer = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = self.nodes(if value.is_true() { then } else { otherwise }, dot)?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::With { line, pipe, then, otherwise } => {
                self.line = *line;
                let outer = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow =
                    if value.is_true() { self.nodes(then, &value) } else { self.nodes(otherwise, dot) }?;
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Range { line, pipe, body, otherwise } => {
                self.line = *line;
                return self.range(pipe, body, otherwise, dot);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let outer = self.variables.len();
        let items: Vec<(Value, Value)> = match self.commands(pipe, dot)? {
            Value::Nil => Vec::new(),
            Value::List(items) => {
                items.into_iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item)).collect()
            }
            Value::Map(entries) => entries.into_iter().map(|(key, item)| (Value::Text(key), item)).collect(),
            other => return Err(format!("range can't iterate over {}", print::plain(&other))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            self.variables.truncate(outer);
            match pipe.variables.as_slice() {
                [value] => self.set(pipe, value, item.clone()),
                [index, value] => {
                    self.set(pipe, index, key);
                    self.set(pipe, value, item.clone());
                }
                _ => {}
            }
            if self.nodes(body, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(Flow::Next)
    }

    fn set(&mut self, pipe: &Pipe, name: &str, value: Value) {
        let known = self.variables.iter_mut().rev().find(|(known, _)| pipe.assigns && known == name);
        match known {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_string(), value)),
        }
    }

    /// The pipe's value, which its variables have from then on.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(pipe, name, value.clone());
        }
        Ok(value)
    }

    /// Each command's value is the last argument of the next.
    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut piped = None;
        for command in &pipe.commands {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &[Term], piped: Option<Value>, dot: &Value) -> Result<Value, String> {
        let Some((first, arguments)) = command.split_first() else { return Ok(Value::Nil) };
        let Base::Function(name) = &first.base else {
            return match piped {
                None => self.term(first, dot),
                Some(_) => Err("can't give argument to non-function".into()),
            };
        };
        // These decide which of their arguments are looked at.
        if matches!(name.as_str(), "and" | "or") {
            let mut last = None;
            for argument in arguments {
                let value = self.term(argument, dot)?;
                if value.is_true() == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return piped.or(last).ok_or_else(|| format!("wrong number of args for {name}: want at least 1"));
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(self.term(argument, dot)?);
        }
        values.extend(piped);
        let value = functions::call(name, &values, self.surroundings)
            .map_err(|error| format!("error calling {name}: {error}"))?;
        members(value, &first.members)
    }

    fn term(&mut self, term: &Term, dot: &Value) -> Result<Value, String> {
        let base = match &term.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) if name.is_empty() => self.data.clone(),
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).ok_or_else(|| format!("undefined variable ${name}"))?
            }
            Base::Function(_) => return self.command(std::slice::from_ref(term), None, dot),
            Base::Literal(value) => value.clone(),
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        members(base, &term.members)
    }
}

fn members(base: Value, names: &[String]) -> Result<Value, String> {
    names.iter().try_fold(base, |value, name| value.member(name))
}
