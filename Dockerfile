# One image for operator, workers and command line; the target `messaging` adds the messaging application.
#
#     docker build --target celeriac  -t celeriac:dev .
#     docker build --target messaging -t celeriac-messaging:dev .
#
# Your own app: put `celeriac` into the image that you have (`pip install`), or begin FROM this one. Modules in /app are
# found; what has to be installed needs a base with pip:
#
#     USER 0
#     RUN pip --python /opt/celeriac/bin/python install my-app
#     USER 65532:65532
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Two environments: pip stays in the one that is thrown away.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/celeriac
WORKDIR /source
COPY scripts/requirements ./
COPY pyproject.toml constraints.txt ./
# What it stands on first: a change of our own code then builds in seconds.
RUN python3 requirements pyproject.toml operator > operator.txt \
 && /build/bin/pip --python /opt/celeriac/bin/python install --constraint constraints.txt --requirement operator.txt

FROM build AS build-messaging
COPY src/celeriac_messaging/pyproject.toml messaging.toml
RUN python3 requirements messaging.toml > messaging.txt \
 && /build/bin/pip --python /opt/celeriac/bin/python install --constraint constraints.txt --requirement messaging.txt
COPY README.md LICENSE ./
COPY src src
COPY operator operator
RUN /build/bin/pip --python /opt/celeriac/bin/python install --no-deps . ./src/celeriac_messaging

FROM build AS build-celeriac
# With a server: the chart's development broker runs it.
RUN python3 requirements pyproject.toml local > local.txt \
 && /build/bin/pip --python /opt/celeriac/bin/python install --constraint constraints.txt --requirement local.txt
COPY README.md LICENSE ./
COPY src src
COPY operator operator
RUN /build/bin/pip --python /opt/celeriac/bin/python install --no-deps .

FROM ${BASE} AS base
# Any uid may run it: nothing is written but to /tmp, and no name is looked up for it.
ENV PATH=/opt/celeriac/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=celeriac
WORKDIR /app
USER 65532:65532
CMD ["celeriac", "--help"]

FROM base AS messaging
COPY --from=build-messaging /opt/celeriac /opt/celeriac

FROM base AS celeriac
COPY --from=build-celeriac /opt/celeriac /opt/celeriac
