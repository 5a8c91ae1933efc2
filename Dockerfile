# The images of Kinase; docs/images.md says how to build them.
#
#   operator    watches the cluster: no torch, no numpy
#   controller  runs an experiment's loop: what strategies, store and report need, no torch
#   trainer     trains a network: torch with its CUDA libraries
#
# The base is any image with Python 3.11 or later and its venv module. The trainer may have another with
# the same Python.
ARG BASE=docker.io/library/python:3.13-slim
ARG TRAINER_BASE=${BASE}

# uv and hatchling, which no image keeps. `fetch` runs a command that goes to the package index: with
# the secret `ca` (certificates, PEM) in place of the authorities that pip and uv know by themselves.
FROM ${BASE} AS tools
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ENV PATH=/tools/bin:$PATH UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
RUN python3 -m venv /tools && printf '%s\n' '#!/bin/sh' \
  'if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca; fi' \
  'exec "$@"' > /tools/bin/fetch && chmod 755 /tools/bin/fetch
COPY requirements/build.lock requirements/
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc,target=/root/.netrc \
  fetch pip install --quiet --disable-pip-version-check --no-cache-dir --only-binary :all: \
  --require-hashes --requirement requirements/build.lock
# Packages go here, into an environment without pip.
RUN python3 -m venv --without-pip /opt/kinase

# Kinase itself, to be laid over an environment: a small layer of its own, whatever lies below.
FROM tools AS kinase
COPY LICENSE README.md pyproject.toml ./
COPY kinase kinase
COPY operator operator
COPY trainer trainer
RUN hatchling build --target wheel --directory /dist \
  && uv pip install --quiet --python /opt/kinase/bin/python --prefix /layer --no-deps --offline /dist/*.whl \
  && rm -f /layer/.lock && python3 -m compileall -q /layer

# What every image is: a user without rights who needs to write nowhere but to /tmp.
FROM ${BASE} AS runtime
RUN grep -q ':65532:' /etc/group || echo 'nonroot:x:65532:' >> /etc/group; \
  grep -q ':65532:' /etc/passwd || echo 'nonroot:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd
# USER for programs that ask for its name, under whatever number the pod runs
ENV PATH=/opt/kinase/bin:$PATH HOME=/tmp USER=nonroot PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532

FROM tools AS operator-packages
COPY requirements/operator.lock requirements/
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc,target=/root/.netrc \
  --mount=type=cache,target=/root/.cache/uv \
  fetch uv pip install --quiet --python /opt/kinase/bin/python --no-deps --only-binary :all: \
  --require-hashes --requirement requirements/operator.lock && rm -f /opt/kinase/.lock
# Of the Kubernetes client's thousand modules a start loads a few: the rest goes without bytecode.
RUN python3 -m compileall -q -j 0 -x /kubernetes/ /opt/kinase/lib \
  && /opt/kinase/bin/python -c 'import kopf, kubernetes.aio.client.api_client, kubernetes.aio.config'

FROM runtime AS operator
COPY --from=operator-packages /opt/kinase /opt/kinase
# without the command `kinase`, which takes more than is here
COPY --from=kinase /layer/lib /opt/kinase/lib
ENTRYPOINT ["python", "-m", "kinase_operator"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="Kinase operator" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.source="${SOURCE}"

FROM tools AS controller-packages
COPY requirements/controller.lock requirements/
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc,target=/root/.netrc \
  --mount=type=cache,target=/root/.cache/uv \
  fetch uv pip install --quiet --python /opt/kinase/bin/python --no-deps --only-binary :all: \
  --require-hashes --requirement requirements/controller.lock && rm -f /opt/kinase/.lock \
  && python3 -m compileall -q -j 0 /opt/kinase/lib

FROM runtime AS controller
COPY --from=controller-packages /opt/kinase /opt/kinase
COPY --from=kinase /layer /opt/kinase
ENTRYPOINT ["python", "-m", "kinase_controller"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="Kinase controller" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.source="${SOURCE}"

# TORCH=lock: torch of the lock file, as PyPI serves it. TORCH=base: the torch that TRAINER_BASE has for
# its Python, such as NVIDIA's build, or one for another device.
FROM tools AS torch
ARG TORCH=lock
COPY requirements/torch.lock requirements/
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc,target=/root/.netrc \
  --mount=type=cache,target=/root/.cache/uv \
  case "$TORCH" in \
  lock) fetch uv pip install --quiet --python /opt/kinase/bin/python --no-deps --only-binary :all: \
    --require-hashes --requirement requirements/torch.lock && rm -f /opt/kinase/.lock \
    && { python3 -m compileall -q -j 0 /opt/kinase/lib \
      || echo "not compiled: what torch has in the syntax of another Python"; } ;; \
  base) python3 -m venv --without-pip --system-site-packages /opt/kinase ;; \
  *) echo "TORCH=$TORCH: there are lock and base" >&2; exit 1 ;; \
  esac

FROM tools AS trainer-packages
COPY requirements/trainer.lock requirements/
RUN --mount=type=secret,id=ca --mount=type=secret,id=netrc,target=/root/.netrc \
  --mount=type=cache,target=/root/.cache/uv \
  fetch uv pip install --quiet --python /opt/kinase/bin/python --prefix /layer --no-deps --only-binary :all: \
  --require-hashes --requirement requirements/trainer.lock && rm -f /layer/.lock \
  && python3 -m compileall -q -j 0 /layer

FROM ${TRAINER_BASE} AS trainer
RUN grep -q ':65532:' /etc/group || echo 'nonroot:x:65532:' >> /etc/group; \
  grep -q ':65532:' /etc/passwd || echo 'nonroot:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd
ENV PATH=/opt/kinase/bin:$PATH HOME=/tmp USER=nonroot PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
COPY --from=torch /opt/kinase /opt/kinase
COPY --from=trainer-packages /layer /opt/kinase
COPY --from=kinase /layer /opt/kinase
# Which devices a container sees is the device plugin's to say, or that of `docker run --gpus`; a base
# that names all of them would give them to trials that asked for none.
ENV NVIDIA_VISIBLE_DEVICES=void NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENTRYPOINT ["python", "-m", "kinase_trainer"]
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="Kinase trainer" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.source="${SOURCE}"
