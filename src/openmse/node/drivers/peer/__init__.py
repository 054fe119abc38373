"""The transports between the parties of a group: datagrams, and links over mutual TLS.

They carry bytes and prove who sent them; what the bytes mean is ``openmse.wire``'s part. The
witness uses them too, for many groups on one socket.
"""
