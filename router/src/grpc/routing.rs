//! `estafette.v1.Routing`: why a request goes where it goes.

use super::answer_request;
use crate::app::App;
use crate::cluster::Explained;
use estafette_proto::v1;
use estafette_routing::{Choice, Terms};
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status};

/// Serves `Routing`.
#[derive(Clone, Debug)]
pub(super) struct RoutingService {
    pub(super) app: Arc<App>,
}

#[tonic::async_trait]
impl v1::routing_server::Routing for RoutingService {
    async fn explain(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<v1::RouteExplanation>, Status> {
        let request = answer_request(&self.app, request.into_inner(), Instant::now())
            .await
            .map_err(|error| error.to_status())?;
        let explained = self.app.cluster.explain(&request);
        Ok(Response::new(to_wire(&explained, request.prompt.tokens.len() as u32)))
    }
}

fn to_wire(explained: &Explained, prompt_tokens: u32) -> v1::RouteExplanation {
    let name = |slot: u32| explained.names.get(&slot).cloned().unwrap_or_default();
    let (prefill, decode, reason) = match &explained.decision {
        Ok(decision) => {
            let (prefill, decode) = match decision.choice {
                Choice::Aggregated { decode } => (String::new(), name(decode)),
                Choice::Disaggregated { prefill, decode } => (name(prefill), name(decode)),
            };
            (prefill, decode, decision.reason.as_str())
        }
        Err(none) => (String::new(), String::new(), none.as_str()),
    };
    let terms = &explained.terms;
    let parts = [
        (v1::RoutePart::Prefill, &terms.prefill),
        (v1::RoutePart::Decode, &terms.decode),
        (v1::RoutePart::Aggregated, &terms.aggregated),
    ];
    let candidates = parts.into_iter().flat_map(|(part, candidates)| {
        candidates.iter().map(move |candidate| (part, candidate)).map(|(part, candidate)| {
            v1::RouteCandidate {
                worker: name(candidate.slot),
                part: part.into(),
                uncached_tokens: candidate.uncached_tokens,
                filtered: candidate.score.err().map_or("", |why| why.as_str()).to_owned(),
                terms: candidate.score.ok().map(terms_to_wire),
            }
        })
    });
    v1::RouteExplanation {
        prompt_tokens,
        prefill,
        decode,
        reason: reason.to_owned(),
        prefill_pressure: terms.prefill_pressure,
        decode_pressure: terms.decode_pressure,
        candidates: candidates.collect(),
        fate: explained.fate.as_str().to_owned(),
        waiting: explained.waiting as u64,
    }
}

fn terms_to_wire(terms: Terms) -> v1::RouteTerms {
    let Terms { queue, seat, prefill, hand_off, decode, interference, others } = terms;
    let total = terms.total();
    v1::RouteTerms { queue, seat, prefill, hand_off, decode, interference, others, total }
}
