"""The words of the wizard: those of the MSE 8.0 High Availability guide, and ours in their manner.

Nothing of the guide's wording is bettered here, odd grammar included: people know these screens.
"""

from openmse.documents import document

WIZARD = """\
Enter whether you would like to set up the initial
parameters manually or via the setup wizard."""

WELCOME = """\
At any question, ^ goes back to the previous one, and Ctrl-C leaves.
(S)kip leaves a setting as it is, (U)se default sets it to its default.
Nothing is changed before all questions are answered and confirmed.
Where the guide's words say WCS or NCS, the console is meant."""

MANUALLY = f"""\
Nothing was changed. To set the parameters manually, edit
/etc/openmse/openmse.toml ('mse config check' says what is wrong with it)
and the system's own files. An example and every key are in
{document("configuration")}."""

HOST_NAME = """\
The host name should be a unique name that can identify
the device on the network. The hostname should start with
a letter, end with a letter or number, and contain only
letters, numbers, and dashes."""

DOMAIN = """\
Enter the domain to which this device belongs, such as
example.net, or none."""

ROLE = "High availability role for this MSE (Primary/Secondary)"

HEALTH_INTERFACE = """\
Health monitor interface holds physical IP address of this MSE server.
This IP address is used by Secondary, Primary MSE servers and WCS to communicate
among themselves"""

DIRECT_INTERFACE = """\
-----

Direct connect configuration facilitates use of a direct cable connection between
the primary and secondary MSE servers.
This can help reduce latencies in heartbeat response times, data replication and
failure detection times.
Please choose a network interface that you wish to use for direct connect. You should
choose appropriately configure the respective interfaces.
"none" implies you do not wish to use direct connect configuration.

-----"""

VIRTUAL_IP = "Enter a Virtual IP address for first this primary MSE server"

RECOVERY = """\
Choose to start the server in recovery mode.
You should choose yes only if this primary was paired earlier and you have now lost
the configuration from this box.
And, now you want to restore the configuration from Secondary via NCS"""

GATEWAY = """\
Enter an default gateway address for this machine.

Note that the default gateway must be reachable from
the first ethernet interface."""

DNS_TITLE = "Domain Name Service (DNS) Setup"

DNS_ENABLE = """\
Enter whether or not you would like to set up the
Domain Name Service (DNS) for this machine."""

DNS_SERVERS = """\
Enter the IP addresses of the DNS servers, in the order
in which they shall be asked, separated by spaces."""

TIME_ZONE = """\
Enter the current date and time.

Please identify a location so that time zone rules can be set correctly.
Please select a continent or ocean."""

COUNTRY = "Please select a country whose clocks agree with yours."
REGION = "Please select one of the following time zone regions."
UTC = "UTC - I want to use Coordinated Universal Time."
RETURN = "Return to previous setup step (^)."

NTP_TITLE = """\
Network Time Protocol (NTP) Setup.

If you choose to enable NTP, the system time will be
configured from NTP servers that you select.  Otherwise,
you will be prompted to enter the current date and time."""

NTP_ENABLE = """\
Enter whether or not you would like to set up the
Network Time Protocol (NTP) for this machine.

If you choose to enable NTP, the system time will be
configured from NTP servers that you select.  Otherwise,
you will be prompted to enter the current date and time."""

CLOCK = """\
Enter the current date and time of the chosen time zone,
such as 2026-01-31 17:05:00; keep leaves the clock as it is."""

FAILOVER_WAIT = """\
The failover wait is the time from losing the server in charge to
the other's right to serve, in seconds (2 to 120). Short waits need
a calm network; 5 seconds suit most sites."""

WITNESS = """\
The witness is the third vote: with it one of two servers goes on
safely when they cannot see each other. It may be the console's machine
(console), the other primary of the same secondary (other primary) or
an etcd cluster (etcd)."""

WITNESS_NONE = """\
With none, nobody takes over by itself: after every failure of the primary
the service stands still until a person decides for a takeover.
If that person is wrong about the other server being down, both serve for
a while, and what one of them wrote meanwhile is set aside."""

WITNESS_ADDRESS = """\
Enter the IP address of the machine on which the witness runs
('mse witness init' and 'mse witness run' there)."""

ETCD_ENDPOINTS = "Enter the endpoints of the etcd cluster, separated by spaces."
ETCD_FILES = """\
Enter the full paths of the certificate files for etcd, or none.
They must be the same on both servers."""

MANAGEMENT = """\
The management password is that of the user admin of this server's
management API, with which the console adds this server."""

PAIRING_SECONDARY = """\
The pairing password proves to this secondary that the primary is the
right one. It is asked for once, when the two are paired from the console
or with 'mse ha pair' on the primary. It never crosses the network."""

PAIRING_PRIMARY = """\
Enter the health monitor IP address of the secondary with which this
primary shall be paired. It is used to compare the clocks, and to name the
command that pairs the two; pairing itself needs both to run."""

SUMMARY = "Please verify the following setup information."
BEGIN, END = "-----BEGIN-----", "-----END-----"
VERIFY = """\
You may enter "yes" to proceed with configuration, "no" to make
more changes, or "^" to go back to the previous step."""
CHANGED, UNCHANGED = "Configuration Changed", "Configuration Unchanged"
CORRECT = "Is the above information correct (yes, no, or ^)"
RED = """\
One or more checks are red. You may enter "yes" to apply the configuration
all the same, "no" to make more changes, or "^" to go back to the previous step."""
APPLY_RED = "Apply although checks are red (yes, no, or ^)"

SWITCHED_ROLES = """\
*** User has switched roles for this MSE. MSE must be stopped before switching roles.
*** Please stop MSE and then re-run setup.sh.
ERROR: One or more of the requested configurations was not applied."""

ORDINALS = ("first", "second", "third", "fourth")
