"""What ``getserverinfo`` and ``gethainfo`` show: values, pure renderers, and live collectors."""
