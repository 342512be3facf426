"""Begins contexts of MIT Kerberos that are bound to a TLS connection, and a SPNEGO one.

Arguments: the service as SERVICE@HOST, the binding in hexadecimal. Prints a token in
base64 for each of: bound, bound by SPNEGO, not bound; and reads a reply for each, which
completes the context.
"""
import base64
import sys

import gssapi

KERBEROS = gssapi.MechType.kerberos
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")

name = gssapi.Name(sys.argv[1], gssapi.NameType.hostbased_service)
binding = gssapi.raw.ChannelBindings(application_data=bytes.fromhex(sys.argv[2]))
for mech, channel in ((KERBEROS, binding), (SPNEGO, binding), (KERBEROS, None)):
    context = gssapi.SecurityContext(
        name=name, mech=mech, usage="initiate", channel_bindings=channel,
        flags=gssapi.RequirementFlag.mutual_authentication)
    print(base64.b64encode(context.step()).decode(), flush=True)
    context.step(base64.b64decode(sys.stdin.readline()))
    if not context.complete:
        sys.exit("the context is not complete")
print("complete")
