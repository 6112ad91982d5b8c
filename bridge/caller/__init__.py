"""Places real calls: a SIP and SIPREC client with RTP, behind `callbridge call`, the demo and the bench."""
