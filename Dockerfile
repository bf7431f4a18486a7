# The server's image, for CPUs or, with --build-arg ACCELERATOR=cuda, for NVIDIA GPUs:
#
#   docker build --tag registry.example/sluicegate:0.1.0 .
#
# Debian 12, with the Python that the project is tested with. A tag can be pushed anew, so give the digest of the image that
# you have looked at: --build-arg DEBIAN=debian:12.12-slim@sha256:…
ARG DEBIAN=debian:12.12-slim
ARG ACCELERATOR=cpu

FROM ${DEBIAN} AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3=3.11.* \
    && rm -rf /var/lib/apt/lists/*

# Where torch comes from: ACCELERATOR picks one of these two stages.
FROM python AS torch-cpu
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu

# PyPI's torch is the one for CUDA, whose libraries it brings along. The driver comes from the node.
FROM python AS torch-cuda
ENV TORCH_INDEX=https://pypi.org/simple

# One of the two.
# hadolint ignore=DL3006
FROM torch-${ACCELERATOR} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++=4:12.2.* python3-venv=3.11.* \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/sluicegate
ENV PATH=/opt/sluicegate/bin:$PATH
WORKDIR /source
COPY constraints.txt ./
# By itself, so that nothing else comes from that index.
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY protos/gen protos/gen
COPY auth auth
COPY server server
COPY client client
# The kernels for every processor that there are some for: the final stage has no compiler.
RUN pip install --no-cache-dir --constraint constraints.txt ".[server,tracing]" \
    && python -m sluicegate.server.gpt2.kernels --all

FROM python
# The same ids as in the chart's `runAs`. The directory is for a volume: audit log and state.
RUN groupadd --gid 10001 sluicegate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sluicegate \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/sluicegate
COPY --from=build /opt/sluicegate /opt/sluicegate
ENV PATH=/opt/sluicegate/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLUICEGATE_CONFIG=/etc/sluicegate/sluicegate.yaml
# A number: Kubernetes cannot tell whether a name is root.
USER 10001:10001
EXPOSE 50051 9464 50052 50053
# Needs `health.listen`. A model may take ten minutes to load (`engine.load_seconds`).
HEALTHCHECK --start-period=10m --interval=10s --timeout=10s --retries=3 CMD ["sluicegate", "health"]
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
