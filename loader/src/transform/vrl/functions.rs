//! The functions of a program: VRL's, as far as [`lists`](super::lists) lets them in, and ours. What is
//! kept out is known by name, so that a program that calls it is told why.

use vrl::compiler::function::closure;
use vrl::diagnostic::DiagnosticMessage;
use vrl::prelude::{
    ArgumentList, Compiled, Example, ExpressionError, Function, FunctionCompileContext, Parameter,
    state,
};

use crate::transform::vrl::lists::{ALLOWED, GUARDED, Guard, REFUSED};
use crate::transform::vrl::ours::{Lookup, Now};

/// All that a program may name.
pub(super) fn all() -> Vec<Box<dyn Function>> {
    let mut all: Vec<Box<dyn Function>> = vec![Box::new(Now), Box::new(Lookup)];
    for function in vrl::stdlib::all() {
        let name = function.identifier();
        if name == Now.identifier() {
            continue;
        }
        if ALLOWED.contains(&name) {
            all.push(function);
        } else if let Some(guard) = GUARDED.iter().find(|guard| guard.function == name) {
            all.push(Box::new(Guarded {
                inner: function,
                guard: *guard,
            }));
        } else {
            let known = REFUSED.iter().find(|(refused, _)| *refused == name);
            let why = known.map_or("nobody has looked at it yet", |(_, why)| why);
            all.push(Box::new(Refused {
                inner: function,
                why,
            }));
        }
    }
    all
}

pub(super) fn refuse(name: &str, why: &str) -> Box<dyn DiagnosticMessage> {
    Box::new(ExpressionError::from(format!("`{name}`: {why}")))
}

/// One of VRL's functions, with a condition.
#[derive(Debug)]
struct Guarded {
    inner: Box<dyn Function>,
    guard: Guard,
}

/// One of VRL's functions that is kept out.
#[derive(Debug)]
struct Refused {
    inner: Box<dyn Function>,
    why: &'static str,
}

/// What a wrapper says of itself is what the function inside says.
macro_rules! as_inner {
    () => {
        fn identifier(&self) -> &'static str {
            self.inner.identifier()
        }

        fn usage(&self) -> &'static str {
            self.inner.usage()
        }

        fn category(&self) -> &'static str {
            self.inner.category()
        }

        fn return_kind(&self) -> u16 {
            self.inner.return_kind()
        }

        fn examples(&self) -> &'static [Example] {
            self.inner.examples()
        }

        fn parameters(&self) -> &'static [Parameter] {
            self.inner.parameters()
        }

        fn closure(&self) -> Option<closure::Definition> {
            self.inner.closure()
        }
    };
}

impl Function for Guarded {
    as_inner!();

    fn compile(
        &self,
        state: &state::TypeState,
        context: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        let literal = arguments.optional_literal(self.guard.argument, state);
        match literal {
            Ok(Some(value)) if (self.guard.not)(&value) => {
                Err(refuse(self.identifier(), self.guard.why))
            }
            Ok(_) => self.inner.compile(state, context, arguments),
            Err(_) => {
                let Guard { argument, why, .. } = self.guard;
                let why = format!("write `{argument}` out; {why}");
                Err(refuse(self.identifier(), &why))
            }
        }
    }
}

impl Function for Refused {
    as_inner!();

    fn compile(
        &self,
        _state: &state::TypeState,
        _context: &mut FunctionCompileContext,
        _arguments: ArgumentList,
    ) -> Compiled {
        Err(refuse(self.identifier(), self.why))
    }
}
