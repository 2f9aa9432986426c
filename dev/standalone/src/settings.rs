//! The settings of `make run`: those of the gateway, and a few for broker and worker.

use std::{net::SocketAddr, process::ExitCode};

use clap::{ArgAction, Parser};
use shared::{
    config::{Command, Common, Partitions, StartFrom, address, heading},
    process,
};
use worker::binary::Settings;

/// The default of `RUST_LOG`: the start is silent, the welcome text has the addresses. The echo service logs requests that get no
/// reply.
const LOG_FILTER: &str = "warn,shared::signals=info,standalone::echo=info";

/// What `--help` prints last.
const EXAMPLES: &str = "\
Each flag is also an environment variable: --reply-timeout 5s is REPLY_TIMEOUT=5s.

Examples:
  make run HTTP_ADDR=127.0.0.1:9000 RUST_LOG=info
  make run ROUTES=examples/routes.toml
  make run KAFKA_BROKERS=localhost:9092";

/// The gateway's settings under their usual names, and the settings of the other parts.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "pingpong",
    version,
    about = "Broker, worker and gateway in one process, to try them out",
    after_help = EXAMPLES,
    // No default: without brokers the process starts the built-in one.
    mut_arg("kafka_brokers", |argument| argument.default_value(None).help("Kafka brokers to use instead of the built-in one")),
    mut_arg("rust_log", |argument| argument.default_value(LOG_FILTER).help("What to log, such as gateway=debug,info")),
    mut_arg("admin_addr", |argument| argument.help("Where /live, /ready and /metrics are; the worker's are at the next port"))
)]
pub(crate) struct AllInOne {
    #[command(flatten)]
    pub(crate) gateway: gateway::Settings,

    /// Where the built-in broker listens
    #[arg(long, env, default_value = "127.0.0.1:9092", value_parser = address, help_heading = heading::KAFKA)]
    pub(crate) broker_addr: SocketAddr,

    /// Where the worker starts
    #[arg(long, env, default_value = "resume", help_heading = heading::TOPICS)]
    pub(crate) start_from: StartFrom,

    /// Answer the routes of the built-in broker with an echo of the request; false leaves them to a service of yours
    #[arg(long, env, default_value_t = true, action = ArgAction::Set, help_heading = heading::TOPICS)]
    pub(crate) echo: bool,
}

// === impl AllInOne ===

impl AllInOne {
    /// Whether to start the built-in broker: `KAFKA_BROKERS` is not set.
    pub(crate) fn has_built_in_broker(&self) -> bool {
        self.gateway.common.kafka.kafka_brokers.is_empty()
    }

    /// The settings of the worker.
    pub(crate) fn worker(&self) -> Settings {
        let mut admin_addr = self.gateway.admin_addr;
        // Port 0 means any free port.
        admin_addr.set_port(match admin_addr.port() {
            0 => 0,
            port => port.checked_add(1).unwrap_or(port - 1),
        });
        let partitions = match self.gateway.routes {
            // The partitions that the gateway writes to.
            None => self.gateway.request_partitions.clone(),
            // The one of each topic that the gateway has created.
            Some(_) => Partitions::Listed([0].into()),
        };
        Settings::for_ping(self.gateway.common.clone(), admin_addr, partitions, self.start_from)
    }
}

impl process::Settings for AllInOne {
    fn common(&self) -> &Common {
        &self.gateway.common
    }

    fn admin_addr(&self) -> SocketAddr {
        self.gateway.admin_addr
    }

    fn command(&self) -> Option<Command> {
        process::Settings::command(&self.gateway)
    }

    fn run_alone(&self) -> Option<ExitCode> {
        process::Settings::run_alone(&self.gateway)
    }

    fn validate(&self) -> Result<(), String> {
        process::Settings::validate(&self.gateway)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_of_all_parts_are_unique() {
        AllInOne::command().debug_assert();
    }

    #[test]
    fn built_in_broker_starts_without_kafka_brokers() {
        let settings = |args: &[&str]| AllInOne::try_parse_from([&["pingpong"], args].concat()).unwrap();
        assert!(settings(&[]).has_built_in_broker());
        assert!(!settings(&["--kafka-brokers", "a:1"]).has_built_in_broker());
    }

    #[test]
    fn worker_admin_port_follows_the_gateways() {
        let port = |addr: &str| {
            let settings = AllInOne::try_parse_from(["pingpong", "--admin-addr", addr]).unwrap();
            settings.worker().admin_addr.port()
        };
        assert_eq!(port("0.0.0.0:8081"), 8082);
        assert_eq!(port("0.0.0.0:65535"), 65534);
        assert_eq!(port("0.0.0.0:0"), 0);
    }
}
