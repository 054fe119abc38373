"""Everything between the product and the machine it is installed on.

Users, directories, systemd units, manual pages and completions (``mse install``), and starting and
stopping what they describe (``msed``, in ``engine``). Nothing here decides about high availability;
the engine speaks with the health monitor over the control socket like every other command.
"""
