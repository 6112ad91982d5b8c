"""Events, and the outbox that numbers, keeps and confirms them. Sans-IO; `bridge.net.publisher` does the waiting.

event      what happened, in a call; `entry`: an event with its number
ticket     an entry's number in this process: what is on disk is told by the highest one
box        one call's entries: `pending`, then `kept` for as long as a failover of the sink could lose them
book       what is known of a call from its own events: enough to end it, should this process die
spool      the entries on disk, written ahead
part       what a batch holds of one call; `receipt`: the sink's answer to a batch
"""
