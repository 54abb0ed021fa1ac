//! What is asked about the connections of a core: `CLIENT LIST` and `CLIENT KILL`.

use corelane_dialect::resp::{ClientFilter, describe_client};
use corelane_protocol::{ClientErrand, MonotonicUs, Reply, RequestHead, wire};

use super::Clients;
use super::facts::client_facts;
use crate::connection::{Connections, Session};
use crate::execute::reply_head;

impl Clients for Connections {
    fn run(
        &mut self,
        head: &RequestHead,
        errand: ClientErrand,
        filter: &[u8],
        now: MonotonicUs,
        out: &mut Vec<u8>,
    ) {
        let filter = ClientFilter::decode(filter).expect("another core encoded it");
        let (mut text, mut meant) = (Vec::new(), 0);
        for index in 0..self.places() {
            let Some(connection) = self.at(index).and_then(|id| self.get_mut(id)) else { continue };
            let facts = client_facts(connection, now);
            if !connection.is_served() || !filter.matches(&facts) {
                continue;
            }
            meant += 1;
            match errand {
                ClientErrand::List => match &connection.dialect {
                    Some(dialect) => dialect.describe(&facts, &mut text),
                    None if connection.session == Session::Fresh => {
                        describe_client(&facts, "", &mut text);
                    }
                    None => describe_client(&facts, "native", &mut text),
                },
                ClientErrand::Close => connection.finish(),
            }
        }
        let reply = match errand {
            ClientErrand::List => Reply::Stats { core: 0, text: &text },
            ClientErrand::Close => Reply::Number { number: meant, version: None },
        };
        wire::encode_reply(&reply_head(head), &reply, out);
    }
}
