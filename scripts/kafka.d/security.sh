# A part of scripts/kafka: listeners with TLS and SASL, users and ACLs, for KAFKA_SECURITY=1.
#
# Ports: node I has three beside its PLAINTEXT port, in the order of $protocols. Each listener has the name of its protocol.

protocols=(SASL_PLAINTEXT SASL_SSL SSL)
users=(admin gateway worker alice)

# Prints HOST:PORT of a listener. Those with TLS advertise a DNS name, so that clients check one.
listener() { # PROTOCOL I
  local i host=127.0.0.1
  [[ $1 != *SSL ]] || host=localhost
  for i in "${!protocols[@]}"; do
    [[ ${protocols[i]} != "$1" ]] || echo "$host:$((secure + ($2 - 1) * ${#protocols[@]} + i))"
  done
}

# Prints the SASL properties of one listener. The users of PLAIN are fixed here: Kafka reads them only when it starts.
sasl_properties() { # PROTOCOL
  local user plain='' prefix=listener.name.${1,,} common=org.apache.kafka.common.security oauth
  oauth=$common.oauthbearer.OAuthBearerLoginModule
  for user in "${users[@]}"; do plain+=" user_$user=\"$user-secret\""; done
  echo "$prefix.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"
  echo "$prefix.plain.sasl.jaas.config=$common.plain.PlainLoginModule required$plain;"
  echo "$prefix.scram-sha-256.sasl.jaas.config=$common.scram.ScramLoginModule required;"
  echo "$prefix.scram-sha-512.sasl.jaas.config=$common.scram.ScramLoginModule required;"
  # The broker accepts unsigned tokens. It checks only their claims.
  echo "$prefix.oauthbearer.sasl.jaas.config=$oauth required unsecuredLoginStringClaim_sub=\"admin\";"
}

# Prints the properties of node I. The brokers, the controllers and the tools of this script use PLAINTEXT: its principal,
# User:ANONYMOUS, is a super user.
security_properties() { # I
  local protocol listeners advertised
  listeners=PLAINTEXT://$(broker "$1") advertised=$listeners
  for protocol in "${protocols[@]}"; do
    advertised+=,$protocol://$(listener "$protocol" "$1")
    listeners+=,$protocol://127.0.0.1:$(listener "$protocol" "$1" | cut -d: -f2)
  done
  cat <<PROPERTIES
listeners=$listeners,CONTROLLER://127.0.0.1:$((control + $1 - 1))
advertised.listeners=$advertised
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
$(sasl_properties SASL_PLAINTEXT)
$(sasl_properties SASL_SSL)
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location=$dir/tls/ca.crt
listener.name.sasl_ssl.ssl.keystore.location=$dir/tls/server.pem
listener.name.ssl.ssl.keystore.location=$dir/tls/server.pem
listener.name.ssl.ssl.client.auth=required
# Without these two, Kafka refuses a new certificate that has other names.
ssl.allow.dn.changes=true
ssl.allow.san.changes=true
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/\$1/,DEFAULT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin
PROPERTIES
}

# Makes the certificates, and client.env: the addresses and secrets of the cluster as KEY=VALUE lines.
prepare_security() {
  local protocol user i list
  "$self.d/certificates" "$dir/tls" || die 'openssl could not make the certificates'
  {
    for protocol in PLAINTEXT "${protocols[@]}"; do
      list=''
      for i in "${all[@]}"; do
        if [[ $protocol == PLAINTEXT ]]; then list+=,$(broker "$i"); else list+=,$(listener "$protocol" "$i"); fi
      done
      echo "$protocol=${list:1}"
    done
    echo "TLS_DIR=$dir/tls"
    for user in "${users[@]}"; do echo "PASSWORD_${user^^}=$user-secret"; done
  } >"$dir/client.env"
}

create_users() {
  local user
  prepare_client
  {
    for user in "${users[@]}"; do echo "password $user $user-secret"; done
    sed '/^#/d' "$self.d/acls"
  } | admin
}

# Prints an unsigned token (RFC 7519, alg "none") for OAUTHBEARER.
token() { # USER SECONDS
  local now
  now=$(date +%s)
  encode() { base64 -w 0 | tr +/ -_ | tr -d =; }
  printf '%s.%s.\n' "$(printf '{"alg":"none"}' | encode)" \
    "$(printf '{"sub":"%s","iat":%s,"exp":%s}' "$1" "$now" "$((now + $2))" | encode)"
}
