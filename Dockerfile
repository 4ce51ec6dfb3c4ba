# A small image of mexcflow for use with a ClickHouse server: the core, without the embedded engine, as a user
# without rights. It is built by `docker compose build`, or by hand: docker build -t mexcflow .
#
# A package registry of your own is given from outside, and is in no layer of the result:
#   docker build --build-arg PIP_INDEX_URL=... -t mexcflow .
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ARG PIP_TRUSTED_HOST
ARG PIP_PROXY
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# without pip in it: pip comes from the base, installs from outside, and stays behind with this stage
RUN python3 -m venv --without-pip /opt/mexcflow
WORKDIR /source
COPY . .
RUN python3 -m pip --python /opt/mexcflow/bin/python install --quiet .

FROM ${BASE_IMAGE}
COPY --from=build /opt/mexcflow /opt/mexcflow
# Lines and not useradd, which not every base has. A new volume takes its owner from the folder it is mounted on.
RUN echo 'mexcflow:x:10001:10001:mexcflow:/var/lib/mexcflow:/bin/false' >> /etc/passwd \
    && echo 'mexcflow:x:10001:' >> /etc/group \
    && mkdir -p /var/lib/mexcflow/journal \
    && chown -R 10001:10001 /var/lib/mexcflow
ENV PATH=/opt/mexcflow/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# ./journal is here, where a recording into a server keeps what it has received
WORKDIR /var/lib/mexcflow
STOPSIGNAL SIGTERM
ENTRYPOINT ["mexcflow"]
CMD ["--help"]
