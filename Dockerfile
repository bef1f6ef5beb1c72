# One image for operator, workers and command line; the target `messaging` adds the messaging application.
#
#     docker build --target celeriac  -t celeriac:dev .
#     docker build --target messaging -t celeriac-messaging:dev .
#
# Your own app: FROM celeriac:dev, then `pip install` it, or put `celeriac` into the image that you have.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Two environments: pip stays in the one that is thrown away.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/celeriac
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
COPY operator operator
RUN /build/bin/pip --python /opt/celeriac/bin/python install --constraint constraints.txt '.[operator]'

FROM build AS build-messaging
RUN /build/bin/pip --python /opt/celeriac/bin/python install --constraint constraints.txt '.[operator,messaging]'

FROM ${BASE} AS base
# Any uid may run it: nothing is written but to /tmp.
ENV PATH=/opt/celeriac/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
USER 65532:65532
CMD ["celeriac", "--help"]

FROM base AS messaging
COPY --from=build-messaging /opt/celeriac /opt/celeriac

FROM base AS celeriac
COPY --from=build /opt/celeriac /opt/celeriac
