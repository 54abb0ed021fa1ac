//! The configuration of a running node, and the settings that may be changed meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};

use corelane_engine::Tuning;

use crate::budget;
use crate::config::settings::{self, CHANGEABLE};
use crate::config::{Config, ConfigError, Host, ValueError};
use crate::node::shard_policy;
use crate::shares;

/// See the module. Only the control side holds it; data cores are told by commands.
pub(crate) struct LiveConfig {
    state: Mutex<State>,
    host: Host,
}

struct State {
    config: Config,
    /// What each core's shard may hold, in bytes.
    shares: Vec<u64>,
}

impl State {
    fn cores(&self) -> u16 {
        self.shares.len() as u16
    }

    /// What each core is to go on with.
    fn tunings(&self) -> Vec<Tuning> {
        let budget = budget::divide(&self.config, self.cores());
        let tuning = |shard_bytes: &u64| Tuning {
            policy: shard_policy(self.config.policy),
            shard_bytes: *shard_bytes,
            output_bytes_total_max: budget.output_bytes,
            backlog_bytes_total_max: budget.backlog_bytes,
            input_bytes_total_max: budget.input_bytes,
        };
        self.shares.iter().map(tuning).collect()
    }
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
    /// The configuration, and what each core's shard may hold, in bytes.
    pub(crate) fn new(config: Config, host: Host, shares: Vec<u64>) -> LiveConfig {
        // Address space was reserved for so much.
        let memory_max = Some(config.memory_max.unwrap_or(config.memory));
        let config = Config { memory_max, ..config };
        LiveConfig { state: Mutex::new(State { config, shares }), host }
    }

    /// As it is now.
    pub(crate) fn get(&self) -> Config {
        self.lock().config.clone()
    }

    /// Brings the cores' shares of the memory closer to the slots that each has, where they hold
    /// so many bytes, and hands what the cores have to know of it, in their order, to `tell`.
    pub(crate) fn follow_slots(&self, slots: &[u16], held: &[u64], tell: impl FnOnce(Vec<Tuning>)) {
        let mut state = self.lock();
        let even = budget::divide(&state.config, state.cores()).shard_bytes;
        let next = shares::step(even, &state.shares, &shares::by_slots(even, slots), held);
        if next != state.shares {
            state.shares = next;
            tell(state.tunings());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it guards is replaced whole, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes all of these settings, each by name and text, or none, and hands what the cores
    /// have to know of it, in their order, to `tell`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub(crate) fn change(
        &self,
        settings: &[(String, String)],
        tell: impl FnOnce(Vec<Tuning>),
    ) -> Result<(), ChangeError> {
        let mut current = self.lock();
        let mut changed = current.config.clone();
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
        let even = |config: &Config| budget::divide(config, current.cores()).shard_bytes.max(1);
        let (before, now) = (even(&current.config), even(&changed));
        let scaled = |share: &u64| {
            // A share is at most a few times what it is divided by.
            (u128::from(*share) * u128::from(now) / u128::from(before)) as u64
        };
        let shares = current.shares.iter().map(scaled).collect();
        *current = State { config: changed, shares };
        tell(current.tunings());
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
        let share = budget::divide(&config, 1).shard_bytes;
        LiveConfig::new(config, Host::read(), vec![share])
    }

    fn check(settings: &[(&str, &str)], expected: Result<Tuning, &str>) {
        let live = live();
        let before = live.get();
        let settings: Vec<_> =
            settings.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let mut told = None;
        match (live.change(&settings, |tuning| told = Some(tuning)), expected) {
            (Ok(()), Ok(tuning)) => assert_eq!(told, Some(vec![tuning])),
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
    #[test]
    fn shares_follow_slots_and_memory() {
        let config = Config { memory: 256 << 20, connections_max: 10, ..Config::default() };
        let even = budget::divide(&config, 2).shard_bytes;
        let live = LiveConfig::new(config, Host::read(), vec![even; 2]);
        let mut told = Vec::new();
        let mut follow = |slots: [u16; 2]| {
            for _ in 0..20 {
                let held = live.lock().shares.clone();
                live.follow_slots(&slots, &held, |tunings| told.push(tunings));
            }
            let told = told.last().expect("something changed");
            [told[0].shard_bytes, told[1].shard_bytes]
        };
        assert_eq!(follow([30, 10]), *shares::by_slots(even, &[30, 10]));
        assert_eq!(follow([20, 20]), [even; 2]);
        let before = follow([30, 10]);
        let setting = ("memory".to_owned(), "128MiB".to_owned());
        let mut halved = Vec::new();
        live.change(&[setting], |tunings| halved = tunings).unwrap();
        let ratio = |a: u64, b: u64| a as f64 / b as f64;
        let [first, second] = [halved[0].shard_bytes, halved[1].shard_bytes];
        assert!((ratio(first, second) - ratio(before[0], before[1])).abs() < 0.01);
        assert!(first + second < 128 << 20);
    }
}
