"""What waits, and is used by more than one edge: sockets, the outbox's runner, the spool's files. Thin: what is to be
decided is decided on the floors below.

datagrams        RTP and RTCP of all legs, read once per tick      ice_sockets   the same for WebRTC
rtcp_reports     what we send to peers                             own_address   what we tell them to send to
sip_transports   UDP, TCP and TLS of the SIP endpoint              stt_driver    one leg's transcription on its
websocket, tls   a client without a task of its own                              WebSockets
publisher        events to the sink, as they become durable        write_ahead, spool_files   on disk
"""
