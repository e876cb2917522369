//! The functions that are ours: `now`, the batch clock, and `lookup`, a row of a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use vrl::prelude::{
    ArgumentList, Category, Compiled, Context, Example, Expression, Function,
    FunctionCompileContext, FunctionExpression, Parameter, Resolved, TypeDef, Value, kind, state,
};

use crate::transform::lookup::Table;
use crate::transform::vrl::event::{self, CLOCK};
use crate::transform::vrl::functions::refuse;

/// `now()`: the batch clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now;

impl Function for Now {
    fn identifier(&self) -> &'static str {
        "now"
    }

    fn usage(&self) -> &'static str {
        "When the record's batch was opened."
    }

    fn category(&self) -> &'static str {
        Category::Timestamp.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::TIMESTAMP
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn compile(
        &self,
        _state: &state::TypeState,
        _context: &mut FunctionCompileContext,
        _arguments: ArgumentList,
    ) -> Compiled {
        Ok(NowCall.as_expr())
    }
}

#[derive(Debug, Clone)]
struct NowCall;

impl FunctionExpression for NowCall {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let clock = context.target().target_get(&CLOCK)?;
        Ok(clock.cloned().unwrap_or(Value::Null))
    }

    fn type_def(&self, _state: &state::TypeState) -> TypeDef {
        TypeDef::timestamp()
    }
}

/// The tables of a program, while it is compiled.
#[derive(Debug)]
pub(super) struct Tables(BTreeMap<String, Arc<Table>>);

impl Tables {
    pub(super) fn new(tables: BTreeMap<String, Table>) -> Self {
        Self(
            tables
                .into_iter()
                .map(|(name, table)| (name, Arc::new(table)))
                .collect(),
        )
    }
}

/// `lookup(table, key)`: an object of the table's columns, or null where it has no such key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup;

impl Function for Lookup {
    fn identifier(&self) -> &'static str {
        "lookup"
    }

    fn usage(&self) -> &'static str {
        "The row of a table by its key, as an object; null where there is none."
    }

    fn category(&self) -> &'static str {
        Category::Object.as_ref()
    }

    fn return_kind(&self) -> u16 {
        kind::OBJECT | kind::NULL
    }

    fn examples(&self) -> &'static [Example] {
        &[]
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("table", kind::BYTES, "Name of the table, written out."),
            Parameter::required(
                "key",
                kind::ANY,
                "What is looked up; numbers by their text.",
            ),
        ];
        PARAMETERS
    }

    fn compile(
        &self,
        state: &state::TypeState,
        context: &mut FunctionCompileContext,
        arguments: ArgumentList,
    ) -> Compiled {
        let name = arguments.required_literal("table", state)?;
        let name = name.to_string_lossy().into_owned();
        let tables = context.get_external_context::<Tables>();
        let Some(table) = tables.and_then(|tables| tables.0.get(&name)) else {
            let why = format!("the step has no table {name:?} in its `tables`");
            return Err(refuse(self.identifier(), &why));
        };
        Ok(LookupCall {
            table: Arc::clone(table),
            key: arguments.required("key"),
        }
        .as_expr())
    }
}

#[derive(Debug, Clone)]
struct LookupCall {
    table: Arc<Table>,
    key: Box<dyn Expression>,
}

impl FunctionExpression for LookupCall {
    fn resolve(&self, context: &mut Context<'_>) -> Resolved {
        let key = self.key.resolve(context)?;
        let found = match &key {
            Value::Null | Value::Array(_) | Value::Object(_) => None,
            key => self.table.find_text(&key.to_string_lossy()),
        };
        let Some(columns) = found else {
            return Ok(Value::Null);
        };
        let fields = columns.map(|(name, value)| {
            let value = event::to_vrl(value.clone()).map_err(|number| {
                format!(
                    "the table's {name} is {number}: VRL has no integers of 64 bits without a sign"
                )
            })?;
            Ok((name.into(), value))
        });
        let fields = fields.collect::<Result<_, String>>()?;
        Ok(Value::Object(fields))
    }

    fn type_def(&self, _state: &state::TypeState) -> TypeDef {
        TypeDef::object(vrl::value::kind::Collection::any()).or_null()
    }
}
