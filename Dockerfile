# Two images from one build. Each contains one static binary: no shell, no libc, no user database.

# The manifests, with stubs as sources. Docker compares the files that it copies from a stage by content. So the layer that
# compiles the dependencies is cached until a manifest changes or a source file is added or removed.
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
# Cargo compares modification times, and the sources may be older than the build from the stubs.
RUN find . -name '*.rs' -exec touch {} + && scripts/static

FROM scratch AS worker
COPY --from=build /src/dist/worker /worker
USER 65532:65532
EXPOSE 8082
STOPSIGNAL SIGTERM
# Kafka may take 60 s to start. During the start period "not ready" does not count as a failure.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/worker", "healthcheck"]
ENTRYPOINT ["/worker"]

# The last stage is the default target.
FROM scratch AS gateway
COPY --from=build /src/dist/gateway /gateway
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 CMD ["/gateway", "healthcheck"]
ENTRYPOINT ["/gateway"]
