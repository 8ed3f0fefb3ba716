//! The arguments: a program and `--flag value` pairs.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Context, Result, bail};

/// The flags of one program.
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Splits the arguments of the process into the program's name and flags.
    pub fn from_env() -> Result<(String, Self)> {
        let mut rest = std::env::args().skip(1);
        let program = rest.next().unwrap_or_default();
        let mut flags = BTreeMap::new();
        while let Some(flag) = rest.next() {
            let Some(name) = flag.strip_prefix("--") else {
                bail!("{flag}: not a flag");
            };
            let value = rest.next().with_context(|| format!("{flag}: no value"))?;
            flags.insert(name.to_owned(), value);
        }
        Ok((program, Self(flags)))
    }

    /// The value of a flag, if it is given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a flag that must be given.
    pub fn want(&self, name: &str) -> Result<&str> {
        self.get(name)
            .with_context(|| format!("--{name} is missing"))
    }

    /// The number that a flag gives, if it is given.
    pub fn number<N: FromStr>(&self, name: &str) -> Result<Option<N>> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(n) => Ok(Some(n)),
                Err(_) => bail!("--{name} {text}: not a number"),
            },
        }
    }

    /// The number that a flag gives, or `default`.
    pub fn number_or<N: FromStr>(&self, name: &str, default: N) -> Result<N> {
        Ok(self.number(name)?.unwrap_or(default))
    }
}
