# The container image of Troupe; docs/image.md says how it is built and run. scripts/image builds it with docker, podman or buildah.
#   --target runtime   (the last, so the default)  the program, what it links, and ONNX Runtime
#   --target cuda      the same with ONNX Runtime for NVIDIA GPUs; not yet run on one
#   --target package   only the Debian package: docker build --target package --output dist .
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS build
# How many compilers run at a time; empty: as many as there are cores.
ARG JOBS
ENV DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
WORKDIR /src
# A certificate authority of your own network, where downloads pass through it (scripts/image --ca).
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    apt-get update -q && apt-get install -yq --no-install-recommends ca-certificates ccache && \
    if [ -s /run/secrets/ca.crt ]; then cp /run/secrets/ca.crt /usr/local/share/ca-certificates/build.crt && update-ca-certificates; fi
COPY scripts/deps scripts/deps
COPY scripts/lib/common.sh scripts/lib/packages.sh scripts/lib/source_packages.sh scripts/lib/onnxruntime.sh scripts/lib/deploy_tools.sh scripts/lib/
RUN JOBS=${JOBS} PIP_CERT=/etc/ssl/certs/ca-certificates.crt scripts/deps
COPY . .
# The commit, for `troupe version` and the labels: .git is not part of the build.
ARG REVISION=unknown
# The image installs the package: the libraries it needs are those that dpkg-shlibdeps found, listed nowhere else.
RUN --mount=type=cache,id=troupe-ccache,target=/root/.cache/ccache \
    JOBS=${JOBS} TROUPE_REVISION=${REVISION} CCACHE_MAXSIZE=2G scripts/package --no-sbom --output /package

FROM scratch AS package
COPY --from=build /package/ /

FROM ${BASE} AS installed
# buildah's cache looks at what is copied, not at what is mounted: without this another package would not be installed anew.
COPY --from=build /package/troupe.sha256 /usr/share/troupe/package.sha256
RUN --mount=type=bind,from=build,source=/package,target=/package \
    groupadd --gid 10001 troupe && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/troupe --shell /usr/sbin/nologin troupe && \
    apt-get update -q && \
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends /package/troupe_*.deb && \
    apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/* /var/cache/debconf/* && \
    # Nobody becomes somebody else in here.
    find / -xdev -type f -perm /6000 -exec chmod a-s {} + && \
    # A file system in memory takes its mode over, and some platforms choose the user.
    rmdir /var/lib/troupe/models && chmod 1777 /var/lib/troupe && \
    mv /usr/share/troupe/models /models && ln -s /models /usr/share/troupe/models && \
    sed -i 's|directory: /var/lib/troupe/models    |directory: /models             |' /etc/troupe/troupe.yaml
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Troupe" \
      org.opencontainers.image.description="An actor runtime for model inference: Kafka, HTTP and gRPC in, predictions out" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"
ENV LC_ALL=C.UTF-8
# A number, so that runAsNonRoot can be checked without /etc/passwd.
USER 10001:10001
WORKDIR /var/lib/troupe
EXPOSE 8080 8081 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["troupe", "health", "--alive"]
ENTRYPOINT ["troupe"]

# ONNX Runtime with CUDA and what it loads, out of its Python packages: 3 GB.
FROM build AS cuda-libraries
ARG ONNXRUNTIME_GPU=1.31.1
RUN --mount=type=cache,id=troupe-pip,target=/root/.cache/pip \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt python3 -m pip install --quiet --disable-pip-version-check --break-system-packages --only-binary=:all: \
      --target /python "onnxruntime-gpu[cuda,cudnn]==${ONNXRUNTIME_GPU}" && \
    mkdir -p /made/cuda && \
    cp /python/onnxruntime/capi/libonnxruntime_providers_cuda.so /python/onnxruntime/capi/libonnxruntime_providers_shared.so /made/ && \
    cp /python/onnxruntime/capi/libonnxruntime.so.*.* /made/libonnxruntime.so.1 && \
    find /python/nvidia -name 'lib*.so*' -exec cp {} /made/cuda/ \; && rm -rf /python

FROM installed AS cuda
USER 0:0
COPY --from=cuda-libraries /made/ /usr/lib/troupe/
RUN echo /usr/lib/troupe/cuda >/etc/ld.so.conf.d/troupe-cuda.conf && ldconfig && \
    printf '\nonnxruntime:\n  providers: [cuda, cpu]\n' >>/etc/troupe/troupe.yaml
# What NVIDIA's container runtime puts in: the driver's libraries.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
CMD ["serve"]

FROM installed AS runtime
# Here and not above: buildah forgets to remove what it works in for a stage that has no instruction.
CMD ["serve"]
