"""SIP, SIPREC and SDP without I/O (RFC 3261, 6026, 3264, 4028, 7865, 7866).

message      one SIP message, checked; values stay as they came
transaction  one request and its responses: four tables and their timers
dialog       what a call's two ends agree on; outlives transactions
endpoint     every dialog and transaction of a process: the only class that drivers touch
sdp          a session description, offered or answered
recording    SIPREC: the metadata that says who speaks on which stream
"""
