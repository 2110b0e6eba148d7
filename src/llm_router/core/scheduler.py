"""Who gets a request. One tree of decisions; the numbers stand in the code.

    on_request
    1  no node has ever come            -> NoNodes            503
    2  no node is online                -> AllNodesOffline    503
    3  nobody lists the model           -> ModelNotFound      404
    4  online nodes that list it, less those that failed this request already
       4a  none: the suspects among them, likewise
       4b  none, and one failed it      -> NoCapableNodes     503 (the gateway then reports that failure)
    5  the policy chooses               -> Lease

A lease counts as in flight from here until `on_done`, exactly once (requirement B7).
"""
