"""What an engine is apart from high availability: machine, UDI, licences, what its screens say.

Knows nothing of elections or leases: it reads the picture that the health monitor gives out.
"""
