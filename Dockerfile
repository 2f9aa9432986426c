# Two images from one build: a static binary each and nothing beside it (no shell, no libc, no user database).

# The manifests, with stubs in place of the sources. What is copied from a stage is compared by content, so the layer
# below that compiles the dependencies stays cached until a manifest or the set of source files changes.
FROM rust:1.95-slim AS manifests
WORKDIR /src
COPY . .
RUN find . -type f ! -name 'Cargo.*' ! -name '*.rs' ! -path './scripts/static' -delete \
 && echo 'fn main() {}' | tee $(find . -name '*.rs') > /dev/null

FROM rust:1.95-slim AS build
ENV CARGO_TARGET_DIR=/target
RUN rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY --from=manifests /src .
RUN scripts/static
COPY . .
# Cargo goes by modification time, and the sources may be older than what was built from the stubs.
RUN find . -name '*.rs' -exec touch {} + && scripts/static

FROM scratch AS worker
COPY --from=build /src/dist/worker /worker
USER 65532:65532
EXPOSE 8082
STOPSIGNAL SIGTERM
# The start period is what Kafka may take to come up: until then "not ready" is no failure.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/worker", "healthcheck"]
ENTRYPOINT ["/worker"]

# Last, so that a build without --target makes the gateway.
FROM scratch AS gateway
COPY --from=build /src/dist/gateway /gateway
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/gateway", "healthcheck"]
ENTRYPOINT ["/gateway"]
