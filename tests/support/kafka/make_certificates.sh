#!/bin/bash
# make_certificates.sh DIR: a throw-away authority (ca.pem) and a certificate for localhost (server.pem: key and chain);
# two more that clients refuse: expired.pem, and other.pem for another host; and an authority that made none of them (stranger.pem).
set -euo pipefail
mkdir -p "$1"
cd "$1"
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
{
  openssl req -x509 "${key[@]}" -days 30 -subj /CN=troupe-test-ca -keyout ca.key -out ca.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
  openssl req "${key[@]}" -subj /CN=localhost -keyout server.key -out server.csr
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out server.crt \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 0 -out expired.crt \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -out other.crt \
    -extfile <(printf 'subjectAltName=DNS:elsewhere.example\nextendedKeyUsage=serverAuth\n')
  openssl req -x509 "${key[@]}" -days 30 -subj /CN=troupe-test-stranger -keyout stranger.key -out stranger.pem
} 2>openssl.log || { cat openssl.log >&2; exit 1; }
for one in server expired other; do cat server.key $one.crt ca.pem >$one.pem; done
