"""Every bound of the system, with its unit and its reason.

A bound is a named constant here and nowhere else, so that a reader can see in one place what a peer
may make another one hold, wait for or do.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# --- sockets ---------------------------------------------------------------------------------------
FRAME_BYTES = 1 * MIB  # largest zmq frame that we send: one chunk, so that nothing long sits in front of an abort
MAX_FRAME_BYTES = 4 * MIB  # ZMQ_MAXMSGSIZE: what libzmq lets in before it cuts the peer
MAX_FRAMES = 64  # frames of one zmq message: a packet header and its chunks
HIGH_WATER_MARK = 1000  # zmq messages per pipe; far above LINK_WINDOW_PACKETS, so it is never reached by an honest peer
HANDSHAKE_SECONDS = 10.0  # ZMTP/Curve handshake must end within
HELLO_SECONDS = 10.0  # an admitted connection must say hello within
HALF_OPEN_TOTAL = 10_240  # connections of a door that have not said hello; the oldest is cut first
HALF_OPEN_PER_SOURCE = 5120  # the same, from one address: through a tunnel 5000 engines start as 127.0.0.1
HEARTBEAT_SECONDS = 10.0  # ZMTP PING interval
HEARTBEAT_TIMEOUT_SECONDS = 30.0  # a peer silent for so long is gone (half-dead hosts, pulled cables)
BACKLOG = 4096  # listen(2) backlog: thousands of engines start at once
SELF_TEST_SECONDS = 60.0  # the real door is tried with a wrong key this often
SELF_TEST_TIMEOUT_SECONDS = 5.0  # one try of the door
UNIX_SOCKET_PATH_BYTES = 107  # sun_path without its NUL
SSH_KEY_BYTES = 16 * KIB  # a public key of ssh's, and its comment, in a file
SSH_HOST_KEYS = 16  # fingerprints in a file: a host has three or four keys, a name with several hosts behind it more

# --- the gate --------------------------------------------------------------------------------------
GATE_STALE_SECONDS = 5.0  # a gate that has not heard from the hub for so long admits nobody new
GATE_GRACE_SECONDS = 30.0  # after a start, unknown keys at the engine door are "not known yet", not "refused"
GATE_EARLY_SECONDS = 5.0  # an answer that would be "not yet" waits so long for a reason to be another one
GATE_EARLY = 10_000  # requests that wait so; beyond it the answer is given at once
GATE_UNKNOWN_PER_SECOND = 200.0  # ZAP answers to unknown keys a second; above it they are dropped, known keys never are
PROOF_SECONDS = 60.0  # by which the clock of whoever proves its key without Curve may differ from the controller's
PROOFS_KEPT = 65_536  # proofs remembered, each for three times that long; beyond it nobody is admitted by one
PROOFS_PER_KEY = 16_384  # of one key, so that it cannot take the room of all: 512 sessions, lost every few seconds
PROOFS_FILE_BYTES = 16 * MIB  # what they take on the disk is smaller
PROOFS_APPENDED = 1024  # lines appended to that file before it is written anew, without what is out of time
SHARED_KEYS = 4096  # keys that a gate has in common with others and keeps, 50 us each to make again
GATE_LOG_SECONDS = 1.0  # refusals of one kind are logged once in this time, with their number

# --- links -----------------------------------------------------------------------------------------
PROTOCOL = 1  # version of the messages; a peer of another one is told so and refused
LINK_WINDOW_PACKETS = 128  # packets sent and not acknowledged
LINK_WINDOW_BYTES = 8 * MIB  # bytes sent and not acknowledged
PACKET_BYTES = 256 * KIB  # small messages are packed until this size
PACKET_MESSAGES = 1024  # or this number
ACK_EVERY_PACKETS = 16  # acknowledge at least so often when nothing travels the other way
ACK_SECONDS = 0.02  # and at least so soon
LINK_UNSENT_BYTES = 512 * MIB  # queued for one peer that does not read; beyond it the peer is cut
UNREAD_BYTES = 32 * MIB  # arrived from one peer and not read by us; an honest one has at most a window under way
RESUME_SECONDS = 10.0  # a lost connection may be resumed within; then the session is gone
RECONNECT_FIRST_SECONDS = 0.05  # first wait before another try
RECONNECT_MAX_SECONDS = 2.0  # longest wait between tries
CONNECT_SECONDS = 10.0  # default time-out of a client's first connection
AGENT_PATIENCE_SECONDS = 60.0  # agents and engines look for a lost scheduler so long, then give up cleanly
CLOSE_SECONDS = 5.0  # close() flushes until acknowledged, at most so long

# --- tunnels ---------------------------------------------------------------------------------------
DIRECT_SECONDS = 3.0  # a door that does not answer directly within is looked for through SSH
TUNNEL_CONNECT_SECONDS = 60.0  # one login with its forwards; users give up earlier, by their own time-out
TUNNEL_ANSWER_SECONDS = 300.0  # somebody types a password within; that time counts against nobody's time-out
TUNNEL_START_SECONDS = 15.0  # a tunnel's keeper answers within, on a busy machine too
TUNNEL_FIRST_USER_SECONDS = 15.0  # a keeper to which nobody comes ends
TUNNEL_RETRY_FIRST_SECONDS = 0.25  # first wait before a lost tunnel is opened again; twice as long each time
TUNNEL_RETRY_MAX_SECONDS = 5.0  # longest; well below AGENT_PATIENCE_SECONDS
TUNNEL_FORWARDS = 8  # addresses of one door that a tunnel forwards to
TUNNEL_USERS = 1024  # clients and agents of one user that share a tunnel
TUNNEL_LINE_BYTES = 256 * KIB  # one message between a tunnel's keeper and its users: it may list all of them

# --- messages --------------------------------------------------------------------------------------
INLINE_BYTES = 128 * KIB  # a body up to this travels inside its message and may be held by the scheduler
BUFFERS = 1024  # out-of-band buffers of one body
BODY_BYTES = 64 * GIB  # one task's arguments, or one result
FUNCTION_BYTES = 128 * KIB  # a pickled function up to this is sent once per engine; a larger one travels with its task
STREAM_CREDIT_BYTES = 8 * MIB  # chunks of one stream under way between its two ends; with half of it cores lie idle
CHUNK_BYTES = FRAME_BYTES
KEPT_MEMORY_BYTES = 256 * MIB  # of large buffers that ended, for the next ones; the kernel may have it back
NAME_CHARS = 64  # names of clusters, identities, profiles
TASK_ID_CHARS = 64
TEXT_CHARS = 1024  # a reason, a host name, a label
TRACEBACK_CHARS = 64 * KIB
TARGETS = 16384  # engines that one message may name
TASKS_NAMED = 16384  # tasks that one message may name
TENANT_WAIT_SECONDS = 2.0  # an identity with less than its share of engines waits so long for one that others keep busy
TENANT_IDLE_SECONDS = 0.5  # an engine that its identity let lie for so long may be given to another one at once
TENANT_RESULT_SECONDS = 30.0  # results that nobody fetches keep an idle engine from that
TENANT_FORK_SECONDS = 15.0  # the fresh fork that takes its place is there within; else the place is given up
REVOKED_ENGINE_SECONDS = 1.0  # what a revoked identity still runs has been interrupted, and ends within
REPORTED_TASKS = 20_000  # unfinished tasks in an engine's report after a restart; it gives the rest back unstarted
REPORTED_RESULTS = 120_000  # results in it that nobody has acknowledged; more than RECORDS_UNACKNOWLEDGED
CODE_BYTES = INLINE_BYTES

# --- tasks -----------------------------------------------------------------------------------------
OWNER_TASKS = 20_000  # unfinished tasks that one client session keeps at the scheduler; the rest waits at the client
OWNER_TASK_BYTES = 64 * MIB  # inline bytes of those
IDENTITY_TASKS = 10 * OWNER_TASKS  # unfinished tasks of one identity, over all its sessions and those that went away
IDENTITY_TASK_BYTES = 512 * MIB  # inline bytes of those, and what they name
IDENTITY_SESSIONS = 512  # connections of one identity at a time; its descriptors are the scheduler's
HOSTS_PER_JOIN_KEY = 4096  # agents of one join key at a time
IDENTITY_MESSAGES = 200_000  # a second, as a mean; more than the scheduler takes in, so no honest work is held back
SAID_BEFORE_JOINED = 64  # messages of an agent that waits for the word that it may join
PACED_SECONDS = 1.0  # who sends more is looked at again after so long, at most
QUESTIONS = 1000  # of one session that the hub has not answered
FUNCTIONS_PER_OWNER_BYTES = 64 * MIB  # functions that the scheduler or an engine keeps for one identity
OUTCOMES_PER_OWNER = 100_000  # remembered outcomes for dependencies and duplicates (ids and states only)
PREFETCH_SECONDS = 0.010  # work that is queued at an engine ahead of time
PREFETCH_MIN = 2  # hides one round trip
PREFETCH_MAX = 1024
RETRIES = 100
CLOCK_SKEW_SECONDS = 60.0  # by which the clocks of a client and of the controller may differ
RECOVERY_SECONDS = 30.0  # after a restart the scheduler waits so long for engines on the roster
STALLED_STREAM_SECONDS = 30.0  # an engine that takes no chunk for so long is dropped from a broadcast
OUTPUT_BYTES_PER_TASK = 4 * MIB  # captured stdout and stderr; beyond it the output is cut, and says so
DISPLAY_BYTES_PER_TASK = 64 * MIB  # rich output of one task; what comes after is not shown, and says so
OUTPUT_EVENT_BYTES = 64 * KIB  # one output message
OUTPUT_COALESCE_SECONDS = 0.05
FUNCTIONS_SENT = 4096  # functions that the scheduler remembers to have sent to an engine; a forgotten one goes again
SPENT_KEYS = 100_000  # session keys of engines that ended, which are refused as new ones
HOST_CHARS = 64  # of an engine's host name in the roster: 16,384 engines fit in one message
ENGINES_PER_JOIN_KEY = 10_000  # default limit of a join key
ENGINE_RESULT_BYTES = 1 * GIB  # finished large results that an engine keeps for a client that has not fetched them
CLIENT_HISTORY = 100_000  # task ids that a client, or a view, remembers in their order

# --- records ---------------------------------------------------------------------------------------
RECORDS_KEPT = 100_000  # task records in the hub's memory
RECORDS_BYTES = 256 * MIB  # and their bytes, results included
RECORDS_SECONDS = 0.01  # records go to the hub in batches this often
RECORDS_UNACKNOWLEDGED = 100_000  # records the scheduler holds for a hub that is away; beyond it takes no new work
RECORDS_PER_MESSAGE = 512

# --- the journal -----------------------------------------------------------------------------------
JOURNAL_SEGMENT_BYTES = 32 * MIB  # a file of the journal; the next record begins another one
JOURNAL_LINE_BYTES = 4 * MIB  # one line; a batch of RECORDS_PER_MESSAGE tasks takes 0.2 MiB
JOURNAL_SYNC_SECONDS = 0.5  # task records are on the disk so soon; others before they take effect
CHECKPOINT_LINES = 1000  # a checkpoint is made after so many lines
CHECKPOINT_SECONDS = 5.0  # and so long after the first line that none covers
CHECKPOINTS_REMEMBERED = 4096  # hashes by which a client's head is known without looking into files
HEAD_SECONDS = 1.0  # clients are told of a new checkpoint so often at most
SEEN_LOCK_SECONDS = 2.0  # waited for another client of this user that remembers a head
SEEN_SECONDS = 30.0  # a client writes the newest head to its disk so often
JOURNAL_LOCK_SECONDS = 5.0  # waited for another hub, or the owner's command, to let go of the journal

# --- the hub ---------------------------------------------------------------------------------------
AUDIT_TEXT_CHARS = 512  # one text from outside in a record; a line stays readable
AUDIT_FIELDS = 32  # details of one event in a record
BEAT_SECONDS = 1.0  # the hub's sign of life to the scheduler and its gate; GATE_STALE_SECONDS is several of these
REGISTRY_POLL_SECONDS = 1.0  # the hub looks whether the registry's file was replaced
FOUND_BYTES = 512 * KIB  # results in one answer to a look-up, by characters; more go in further messages
ADOPT_SECONDS = 5.0  # the hub waits so long for the scheduler to put a version in force, then says that it is not
GRANTS_PER_PART = 1024  # of the registry, in one message to the scheduler; below 3 MiB with all their networks
RETIRED_PER_PART = 16_384  # retired keys in it
MOST_GRANTS = 65_536  # of a registry; and as many retired keys
CLOCK_JUMP_SECONDS = 3600.0  # the clock may jump ahead by so much; beyond it the owner is asked first
CLOCK_MARK_SECONDS = 5.0  # the clock's mark is written this often
HISTORY_IDS = 10_000  # task ids in one answer; below FRAME_BYTES at TASK_ID_CHARS each
CONTROL_LINE_BYTES = 4 * KIB  # one request on the hub's control socket
CONTROL_SECONDS = 2.0  # to send it, and to take the answer
BOOTSTRAP_BYTES = 64 * KIB  # what a process is told on its stdin at its start
CONTROL_CONNECTIONS = 16  # served at once; the commands of one user on one machine

# --- files and processes -----------------------------------------------------------------------------
DERIVED_DEPTH = 4  # holders between the issuer and who holds a derived capability
DERIVED_PER_MINUTE = 60  # that a holder and all below it may ask for; each is written to the disk and told to everybody
DERIVED_PER_FAMILY = 1024  # that hang on one grant of the issuer's, over all who hand on
DERIVED_PER_PARENT = 64  # capabilities that one holder has handed on and that are in force
REQUEST_BYTES = 16 * KIB  # a request for a key is far smaller
SEAL_MEMORY_KIB = 64 * 1024  # Argon2id, least and default: the second choice of RFC 9106, some 0.2 s of a processor
SEAL_PASSES = 3  # the same
SEAL_MOST_LANES = 4  # the same; more threads than that help thieves alone
SEAL_MOST_MEMORY_KIB = 1024 * 1024  # what a file may make its reader spend in memory
SEAL_MOST_PASSES = 16
SEAL_MOST_WORK_KIB = 4 * 1024 * 1024  # and in time, as memory x passes: some 10 s of a processor
CHANGING_SECONDS = 10.0  # waited for another command that changes the same file with a secret
SEAL_TOLD_SECONDS = 1.0  # unsealing that takes longer says so
PASSPHRASE_CHARS = 1024
NEW_PASSPHRASE_CHARS = 12  # below it a thief's graphics cards are faster than any cost that an owner bears
PASSPHRASE_TRIES = 3  # at a terminal
FORMER_SERVER_KEYS = 16  # server keys that a statement still calls given up; a year each, say
DOOR_KEYS_BYTES = 4 * KIB  # a statement of the server's keys is far smaller
SEEN_SERVER_KEYS = 64  # that a client remembers of one cluster
AWARE_SECONDS = 30.0  # peers are given so long to confirm that they know the server's next key
REBIND_SECONDS = 5.0  # a door's address is free again so soon after it was let go
CAPABILITY_BYTES = 64 * KIB  # a connection file is far smaller
LOG_BYTES = 10 * MIB  # per process, then rotated
LOG_FILES = 3
PORT_FIRST, PORT_LAST = 20_000, 32_000  # below the ephemeral range, so that no outgoing connection takes our port
CONTROLLER_START_SECONDS = 30.0  # hub and scheduler are ready within, on a busy machine too
ENGINES_START_SECONDS = 60.0  # engines have joined within; interpreters start slowly from network disks
SUPERVISOR_STOP_SECONDS = 5.0  # asked to stop, then killed
RESTARTS_PER_MINUTE = 5  # of one process; more is a crash loop, and the controller ends with an error
SYMLINKS = 40  # symbolic links on the way to a private file, as in the kernel
STALE_RETRIES = 5  # a network file system that answers ESTALE is asked so often
STALE_RETRY_SECONDS = 0.05
LINKED_RETRIES = 20  # a file just being published has two names for a moment
LINKED_RETRY_SECONDS = 0.01
LOCK_POLL_SECONDS = 0.02  # between two tries of a lock that another process holds
REGISTRY_BYTES = 64 * MIB  # the registry file of 65,536 grants and as many retired keys is smaller
IN_FORCE_SECONDS = 10.0  # a change of the registry is confirmed by the running controller within, restarts included
REGISTRY_LOCK_SECONDS = 30.0  # waited for other processes that change the registry, each IN_FORCE_SECONDS at most

# --- the paramiko back end -------------------------------------------------------------------------
SSH_HOPS = 8  # ssh servers that one route leads through
SSH_KEYS_TRIED = 4  # keys that one login offers; servers shut out after six
SSH_QUESTIONS = 8  # prompts of one keyboard-interactive login
SSH_HOST_KEY_KINDS = 3  # connections made to find the one kind of host key that a file vouches for
SSH_ALIVE_SECONDS = 5.0  # a server that says nothing for so long is asked
SSH_SILENT_SECONDS = 15.0  # and after so long the connection is given up
SSH_WATCH_SECONDS = 0.5  # how often that is looked at
SSH_CHANNEL_SECONDS = 10.0  # a server answers the wish for a channel within
SSH_CHANNELS = 1024  # connections through one forward at a time
SSH_PACKET_BYTES = 256 * KIB  # longest packet that is taken from a server; OpenSSH's own bound
SSH_CHANNEL_PACKET_BYTES = 128 * KIB  # of one channel's data in a packet
SSH_CHANNEL_WINDOW_BYTES = 8 * MIB  # sent by the server on one channel and not yet taken by its reader
SSH_READ_BYTES = 256 * KIB  # read from a socket at a time
SSH_FILE_BYTES = 16 * MIB  # of a known_hosts file or a configuration
SSH_LINE_BYTES = 64 * KIB  # of a line in one

# --- the openssh back end ----------------------------------------------------------------------------
SSH_CONNECT_SECONDS = 60  # to connect and to hear the server's greeting, at most; the user's timeout is shorter
SSH_CONFIG_BYTES = 256 * KIB  # of what ssh makes of the user's configuration; it is some 5 KiB
SSH_WORDS_BYTES = 2 * KIB  # of one line of ssh's that is looked at; the longest that matter have a list of algorithms
SSH_LOG_BYTES = 64 * KIB  # of what ssh at a jump host has said
SSH_TOLD_CHARS = 300  # of ssh's own words in a message
SSH_PATH_BYTES = 80  # of a tunnel's directory: ssh adds up to 21 bytes to the name of a socket in it
SSH_COMMAND_SECONDS = 10.0  # for ssh to tell its configuration, and to add a forward
SSH_END_SECONDS = 1.0  # for ssh to go when asked, then it is killed
SSH_WORDS_SECONDS = 1.0  # for ssh's words about a login that stands to be read
SSH_POLL_SECONDS = 0.02  # between two looks for the socket of a login under way
SSH_PROMPT_BYTES = 4 * KIB  # a question of ssh's
SSH_ANSWER_BYTES = 4 * KIB  # and its answer: PASSPHRASE_CHARS in any alphabet
