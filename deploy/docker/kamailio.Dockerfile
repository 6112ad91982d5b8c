# docker build -f deploy/docker/kamailio.Dockerfile -t callbridge-kamailio .
# Debian's Kamailio: the version that deploy/kamailio was tried with.
FROM debian:12-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends kamailio \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o kamailio -g kamailio /run/kamailio
COPY deploy/kamailio/kamailio.cfg deploy/kamailio/dispatcher.list /etc/kamailio/
USER kamailio
EXPOSE 5060/udp 5060/tcp
ENTRYPOINT ["kamailio", "-DD", "-E", "-Y", "/run/kamailio"]
