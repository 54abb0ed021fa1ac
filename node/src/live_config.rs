//! The configuration of a running node, and the settings that may be changed meanwhile.

use std::sync::{Mutex, PoisonError};

use corelane_engine::Tuning;

use crate::budget;
use crate::config::settings::{self, CHANGEABLE};
use crate::config::{Config, ConfigError, Host, ValueError};
use crate::node::shard_policy;

/// See the module. Only the control side holds it; data cores are told by commands.
pub(crate) struct LiveConfig {
    config: Mutex<Config>,
    host: Host,
    cores: u16,
}

/// Why a setting was not changed. Nothing was then.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such setting, or it is for the start only.
    #[error("{name} cannot be changed while the node runs; {} can", CHANGEABLE.join(" and "))]
    Fixed {
        /// What was asked for.
        name: String,
    },
    /// The value is not one of this setting.
    #[error("{name}: {text:?} {error}")]
    Value {
        /// The setting.
        name: String,
        /// What was given.
        text: String,
        /// What is wrong with it.
        error: ValueError,
    },
    /// It does not go with the rest.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl LiveConfig {
    pub(crate) fn new(config: Config, host: Host, cores: u16) -> LiveConfig {
        // Address space was reserved for so much.
        let memory_max = Some(config.memory_max.unwrap_or(config.memory));
        LiveConfig { config: Mutex::new(Config { memory_max, ..config }), host, cores }
    }

    /// As it is now.
    pub(crate) fn get(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes all of these settings, each by name and text, or none, and hands what the cores
    /// have to know of it to `tell`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(crate) fn change(
        &self,
        settings: &[(String, String)],
        tell: impl FnOnce(Tuning),
    ) -> Result<(), ChangeError> {
        let mut current = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = current.clone();
        for (name, text) in settings {
            let setting = settings::find(name)
                .filter(|setting| CHANGEABLE.contains(&setting.name))
                .ok_or_else(|| ChangeError::Fixed { name: name.clone() })?;
            (setting.read)(&mut changed, text).map_err(|error| ChangeError::Value {
                name: name.clone(),
                text: text.clone(),
                error,
            })?;
        }
        changed.check(&self.host)?;
        let budget = budget::divide(&changed, self.cores);
        tell(Tuning {
            policy: shard_policy(changed.policy),
            shard_bytes: budget.shard_bytes,
            output_bytes_total_max: budget.output_bytes,
            backlog_bytes_total_max: budget.backlog_bytes,
            input_bytes_total_max: budget.input_bytes,
        });
        *current = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use corelane_shard::{Algorithm, Among, Policy};

    use super::*;

    fn live() -> LiveConfig {
        let config = Config {
            memory: 256 << 20,
            memory_max: Some(1 << 30),
            connections_max: 10,
            ..Config::default()
        };
        LiveConfig::new(config, Host::read(), 1)
    }

    fn check(settings: &[(&str, &str)], expected: Result<Tuning, &str>) {
        let live = live();
        let before = live.get();
        let settings: Vec<_> =
            settings.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let mut told = None;
        match (live.change(&settings, |tuning| told = Some(tuning)), expected) {
            (Ok(()), Ok(tuning)) => assert_eq!(told, Some(tuning)),
            (Err(error), Err(words)) => {
                assert_eq!(error.to_string(), words);
                assert_eq!((told, live.get()), (None, before));
            }
            (result, expected) => panic!("{result:?}, not {expected:?}"),
        }
    }

    #[test]
    fn settings_change_together_or_not_at_all() {
        let live = live();
        let tuning = |memory: u64, policy| {
            let budget = budget::divide(&Config { memory, ..live.get() }, 1);
            Ok(Tuning {
                policy,
                shard_bytes: budget.shard_bytes,
                output_bytes_total_max: budget.output_bytes,
                backlog_bytes_total_max: budget.backlog_bytes,
                input_bytes_total_max: budget.input_bytes,
            })
        };
        let lfu = Policy::Evict { algorithm: Algorithm::Lfu, among: Among::WithExpiry };
        check(&[("memory", "1GiB"), ("policy", "volatile-lfu")], tuning(1 << 30, lfu));
        check(&[("policy", "noeviction")], tuning(256 << 20, Policy::NoEviction));
        check(
            &[("policy", "lfu"), ("memory", "2GiB")],
            Err("--memory 2GiB is more than --memory-max 1GiB (what --memory was at start, where \
                 it is not given)"),
        );
        check(
            &[("policy", "lfu"), ("cores", "3")],
            Err("cores cannot be changed while the node runs; memory and policy can"),
        );
        check(
            &[("polity", "lfu")],
            Err("polity cannot be changed while the node runs; memory and policy can"),
        );
    }
}
